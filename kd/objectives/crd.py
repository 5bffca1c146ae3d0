"""The same image's embeddings in both nets told from other images': contrastive distillation.

    h(t, s) = e^(⟨t, s⟩/τ) / (e^(⟨t, s⟩/τ) + c),   t = g_T(f_t), s = g_S(f_s) linear, of length 1

    L = −(1/B) Σ_i [2 log h(t_i, s_i) + K·⟨log(1 − h(t_n, s_i))⟩_n + K·⟨log(1 − h(t_i, s_n))⟩_n]

    nce:    c = K·Z,  Z the mean of e^(⟨t, s⟩/τ) over negatives in the first 10 batches
    paper:  c = K/M,  M the size of the training pool

Tian, Krishnan & Isola, "Contrastive Representation Distillation", 2020: τ = 0.07, 128 dimensions,
K = 16 384 negatives n of other classes, whose embeddings lie in a bank that keeps, for each image
and net, a mean with momentum 0.5. The paper's critic begins with a loss of 2K·log(1 + M/K), beside
which the labels count for nothing: on 8×8 digits the student stays far behind one without a
teacher. `nce`, which the authors' code uses and is the default here, begins near 2 + 2·log K. Their
Z is of the first batch, when their bank still holds noise; here a row is used once its image came.

Two more differences from their code: positives are the batch's own and not the bank's, as in the
paper; and one set of K rows is drawn for the batch, of which each image leaves out what is no
negative of its own. That is the same loss in expectation, and gathers [K, 128], not [B, K, 128].
At B = 256, K = 16 384 and M = 50 000 the banks take 51 MB and forward and backward add 210 MB
to the resident memory of a process on a CPU.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting, check_temperature
from kd.objectives.pairs import flat, full_precision
from kd.types import Batch, Outputs

VARIANTS = ("nce", "paper")
ESTIMATED = 10  # batches over which Z is averaged


def critic_loss(
    positive: Tensor, negative: Tensor, allowed: Tensor, log_c: Tensor, count: int
) -> Tensor:
    """−log h of the positives [B] − K·⟨log(1 − h)⟩ of the allowed negatives [B, n], batch mean.

    Scores are ⟨t, s⟩/τ; an image without any allowed negative has its positive only.
    """
    misses = torch.where(allowed, F.logsigmoid(log_c - negative), 0.0)
    mean = misses.sum(1) / allowed.sum(1).clamp_min(1)
    return -(F.logsigmoid(positive - log_c) + count * mean).mean()


def log_mean_exp(scores: Tensor, allowed: Tensor) -> Tensor:
    """log ⟨e^score⟩ over the allowed scores [B, n]; 0 where none is allowed."""
    total = scores.masked_fill(~allowed, -1e4).flatten().logsumexp(0)
    return torch.where(allowed.any(), total - allowed.sum().clamp_min(1).log(), 0.0)


def average(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Rows [B, D] of length 1: the mean of old and new; the new where the old are zero."""
    return F.normalize(momentum * old + (1 - momentum) * new, dim=1)


class Contrastive(Objective):
    """Contrast of each image's two embeddings with remembered ones of other images.

    Args:
        tap: the tap compared; a map is flattened.
        dim: width of the trained embeddings.
        negatives: K; None: 16 384, but at most a third of the training pool, about the paper's
            share of CIFAR-100.
        temperature: τ > 0.
        momentum: share in [0, 1) that the bank keeps of a row when its image comes again.
        variant: `nce` or `paper`.
        exclude_class: negatives are of other classes; else any other image.
    """

    family = "relation"
    needs_index = True
    one_device = "its bank of embeddings would hold on each device the images seen there"
    labels: Tensor  # of the training pool [M]
    student_bank: Tensor  # [M, dim]; zero rows are images that did not come yet
    teacher_bank: Tensor
    log_z: Tensor  # [2], of the student's anchors and of the teacher's
    estimates: Tensor  # [], how many batches are in log_z

    needs_labels = True

    def __init__(
        self,
        tap: str = "embedding",
        dim: int = 128,
        negatives: int | None = None,
        temperature: float = 0.07,
        momentum: float = 0.5,
        variant: str = "nce",
        exclude_class: bool = True,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        if negatives is not None and negatives < 1:
            raise ValueError(f"negatives must be ≥ 1 or null, got {negatives!r}")
        if dim < 1:
            raise ValueError(f"dim must be ≥ 1, got {dim!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        self.tap, self.dim, self.negatives = tap, dim, negatives
        self.temperature, self.momentum = check_temperature(temperature), momentum
        self.variant, self.exclude_class = variant, exclude_class
        self.student_taps = self.teacher_taps = (tap,)
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        pool = len(setting.targets)
        self.count = self.negatives or max(1, min(16_384, pool // 3))
        widths = [flat(outputs.taps[self.tap]).shape[1] for outputs in (student, teacher)]
        self.student_embedding = nn.Linear(widths[0], self.dim)
        self.teacher_embedding = nn.Linear(widths[1], self.dim)
        self.register_buffer("labels", setting.targets.clone(), persistent=False)
        self.register_buffer("student_bank", torch.zeros(pool, self.dim))
        self.register_buffer("teacher_bank", torch.zeros(pool, self.dim))
        self.register_buffer("log_z", torch.zeros(2))
        self.register_buffer("estimates", torch.zeros(()))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(ours):
            ours = F.normalize(self.student_embedding(ours), dim=1)
            theirs = F.normalize(self.teacher_embedding(theirs), dim=1)
            if self.training:
                self._remember(ours.detach(), theirs.detach(), batch.index)
            drawn = torch.randint(len(self.labels), (self.count,), device=ours.device)
            allowed = self._allowed(drawn, batch)
            negatives = (
                ours @ self.teacher_bank[drawn].T / self.temperature,
                theirs @ self.student_bank[drawn].T / self.temperature,
            )
        log_c = self._log_c(negatives, allowed)
        positive = (ours * theirs).sum(1) / self.temperature
        sides = [
            critic_loss(positive, negative, allowed, log_c[side], self.count)
            for side, negative in enumerate(negatives)
        ]
        return torch.stack(sides).sum()

    @torch.no_grad()
    def _remember(self, ours: Tensor, theirs: Tensor, index: Tensor) -> None:
        """Average the batch into the banks, before any of their rows is copied for the loss."""
        for bank, rows in ((self.student_bank, ours), (self.teacher_bank, theirs)):
            bank.index_copy_(0, index, average(bank[index], rows, self.momentum))

    def _allowed(self, drawn: Tensor, batch: Batch) -> Tensor:
        """Which of the drawn rows [K] are negatives of which image: [B, K]."""
        known = self.teacher_bank[drawn].any(1)
        if self.exclude_class:
            return known & (self.labels[drawn] != batch.target[:, None])
        return known & (drawn != batch.index[:, None])

    @torch.no_grad()
    def _log_c(self, negatives: tuple[Tensor, Tensor], allowed: Tensor) -> Tensor:
        """log c of both sides [2]; Z takes in the first batches and then stays."""
        if self.variant == "paper":
            return self.log_z + math.log(self.count / len(self.labels))
        if not self.training:
            return self.log_z + math.log(self.count)
        new = torch.stack([log_mean_exp(scores, allowed) for scores in negatives])
        mean = torch.logaddexp(self.log_z + self.estimates.log(), new) - (self.estimates + 1).log()
        self.log_z.copy_(torch.where(self.estimates < ESTIMATED, mean, self.log_z))
        self.estimates.add_(self.estimates < ESTIMATED)
        return self.log_z + math.log(self.count)
