"""Contrastive representation distillation: contrasts an image's embeddings with others'.

    L = −(1/B) Σ_i [log h(t̄_i, s_i) + log h(t_i, s̄_i)
                    + K·⟨log(1 − h(t̄_n, s_i))⟩_n + K·⟨log(1 − h(t_i, s̄_n))⟩_n]

    h(t, s) = e^(⟨t, s⟩/τ) / (e^(⟨t, s⟩/τ) + c),   t = g_T(f_t), s = g_S(f_s) linear, of length 1

    t̄, s̄: rows of a bank with a moving average, momentum 0.5, of each image's embedding in each net
    nce:    c = K·Z,  Z the mean of e^(⟨t, s⟩/τ) over negatives in the first 10 batches
    paper:  c = K/M,  M the size of the training pool

Paper: Tian, Krishnan & Isola, "Contrastive Representation Distillation", ICLR 2020,
https://arxiv.org/abs/1910.10699: τ = 0.07, 128 dimensions, K = 16 384 negatives n of other classes.

Positives. In the authors' code (github.com/HobbitLong/RepDistiller) both the positive and the
negatives of an anchor are rows of the bank, which takes in the batch after it has been scored. That
is the default, `positives=bank`. The paper's words have the positive from the batch
(`positives=batch`, t̄_i = t_i and s̄_i = s_i): where images vary, by views or by noise, the critic
then learns to tell new embeddings from old ones instead of image from image. On digits with noise
of 96 grey levels and shifts (ResNet-20 to ResNet-8, 25 epochs, seeds 0-2) the student's embedding
of a test image retrieves the teacher's among 359 in 36-39 % with the bank and in 4-10 % with the
batch.

The loss with the paper's critic starts at 2K·log(1 + M/K), which dominates the labels' loss: on 8×8
digits the student stays far below one without a teacher. `nce`, the default, is that of the
authors' code and starts near 2 + 2·log K.

Differences from the authors' code: a row is used only after its image has been seen, where theirs
starts with noise; until then, in the first epoch, the positive is the embedding of the batch
without its gradient. Z is the mean over ten batches of such rows, theirs over the first batch and
noise. One set of K rows is drawn for the whole batch, of which each image excludes those that are
not negatives of its own: the expectation of the loss is the same, and [K, 128] is gathered instead
of [B, K, 128]. At B = 256, K = 16 384 and M = 50 000 the banks take 51 MB, and forward and backward
add 210 MB to the resident memory of a process on a CPU.

Reduction: K times the mean over negatives, mean over the batch, sum over both anchors.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.pairs import flat, full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("nce", "paper")
POSITIVES = ("bank", "batch")
ESTIMATED = 10  # number of batches over which Z is averaged


def crd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_negatives: Tensor,
    teacher_negatives: Tensor,
    allowed: Tensor | None = None,
    log_c: Tensor | None = None,
    contrast_temperature: float = 0.07,
    student_positives: Tensor | None = None,
    teacher_positives: Tensor | None = None,
) -> Tensor:
    """Contrastive critic loss of embedded images and negatives.

    Args:
        student_embedding: s_i [B, D], of length 1.
        teacher_embedding: t_i [B, D], of length 1.
        student_negatives: s_n [K, D], of length 1: the student's embeddings of other images, such
            as rows of a memory bank.
        teacher_negatives: t_n [K, D], of length 1: the teacher's embeddings of the same images.
        allowed: whether image n is a negative of image i, bool [B, K]; None: all are.
        log_c: log c [2], with the student's embeddings as anchors and with the teacher's; None:
            log(K·Z) of these negatives.
        contrast_temperature: τ > 0.
        student_positives: what t_i is to agree with [B, D], of length 1, such as the bank's rows of
            the same images; None: `student_embedding`.
        teacher_positives: the same for s_i; None: `teacher_embedding`.

    Returns:
        Scalar ≥ 0: K times the mean over negatives, mean over the batch, sum over both anchors.

    Example:
        The loss is small where both embeddings of an image agree and the negatives differ:

        >>> import torch
        >>> from kd import losses
        >>> images, others = torch.eye(4)[:2], torch.eye(4)[2:]
        >>> loss = losses.crd(images, images, others, others)
        >>> bool(loss < losses.crd(images, images.flip(0), others, others))
        True

    Reference:
        Tian et al. 2020, https://arxiv.org/abs/1910.10699
    """
    ours, theirs = upcast(student_embedding), upcast(teacher_embedding)
    our_bank, their_bank = upcast(student_negatives), upcast(teacher_negatives)
    positives = (
        theirs if teacher_positives is None else upcast(teacher_positives),
        ours if student_positives is None else upcast(student_positives),
    )
    positive, negative = similarities(
        (ours, theirs), positives, (their_bank, our_bank), contrast_temperature
    )
    if allowed is None:
        allowed = torch.ones_like(negative[0], dtype=torch.bool)
    if log_c is None:
        log_z = torch.stack([log_mean_exp(scores, allowed) for scores in negative]).detach()
        log_c = log_z + math.log(len(student_negatives))
    return both_anchors(positive, negative, allowed, log_c)


Sides = tuple[Tensor, Tensor]  # with the student's embeddings as anchors, and with the teacher's


def similarities(
    anchors: Sides, positives: Sides, negatives: Sides, temperature: float
) -> tuple[Sides, Sides]:
    """Scores ⟨t, s⟩/τ of anchors with their positives, each [B], and negatives, each [B, K]."""
    sides = zip(anchors, positives, negatives, strict=True)
    with full_precision(anchors[0]):
        (s, t) = [
            ((anchor * positive).sum(1) / temperature, anchor @ rows.T / temperature)
            for anchor, positive, rows in sides
        ]
    return (s[0], t[0]), (s[1], t[1])


def both_anchors(positive: Sides, negative: Sides, allowed: Tensor, log_c: Tensor) -> Tensor:
    """Critic losses of scores [B] and [B, K], summed over the student's and the teacher's side."""
    count = allowed.shape[1]
    sides = [
        critic_loss(own, others, allowed, log_c[side], count)
        for side, (own, others) in enumerate(zip(positive, negative, strict=True))
    ]
    return torch.stack(sides).sum()


def critic_loss(
    positive: Tensor, negative: Tensor, allowed: Tensor, log_c: Tensor, count: int
) -> Tensor:
    """−log h of the positives [B] − K·⟨log(1 − h)⟩ of the allowed negatives [B, n], batch mean.

    Scores are ⟨t, s⟩/τ. An image without allowed negatives contributes its positive only.
    """
    misses = torch.where(allowed, F.logsigmoid(log_c - negative), 0.0)
    mean = misses.sum(1) / allowed.sum(1).clamp_min(1)
    return -(F.logsigmoid(positive - log_c) + count * mean).mean()


def log_mean_exp(scores: Tensor, allowed: Tensor) -> Tensor:
    """log ⟨e^score⟩ over the allowed scores [B, n]; 0 where none is allowed."""
    total = scores.masked_fill(~allowed, -1e4).flatten().logsumexp(0)  # e^(−1e4) is 0 in float32
    return torch.where(allowed.any(), total - allowed.sum().clamp_min(1).log(), 0.0)


def average(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Moving average of rows [B, D], scaled to length 1; the new row where the old one is zero."""
    return F.normalize(momentum * old + (1 - momentum) * new, dim=1)


class Contrastive(Objective):
    """Contrastive representation distillation as a loss term, with embeddings and memory banks.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        dim: width ≥ 1 of the trained embeddings.
        negatives: K ≥ 1; None: 16 384, but at most a third of the training pool, which is about
            the paper's ratio on CIFAR-100.
        temperature: τ > 0.
        momentum: weight in [0, 1) of a bank's row when its image is seen again.
        variant: "nce" or "paper"; see the module's docstring.
        positives: "bank" or "batch"; see the module's docstring.
        exclude_class: whether negatives are of other classes; else they are any other images,
            and no labels are read.

    Raises:
        ValueError: a setting is out of range, or there is no such variant.
    """

    family = "relation"
    needs_index = True
    one_device = "its bank of embeddings would hold on each device the images seen there"
    labels: Tensor  # of the training pool [M]
    student_bank: Tensor  # [M, dim]; rows of images not seen yet are zero
    teacher_bank: Tensor
    log_z: Tensor  # [2], with the student's embeddings as anchors and with the teacher's
    estimates: Tensor  # [], number of batches averaged in log_z

    def __init__(
        self,
        tap: str = "embedding",
        dim: int = 128,
        negatives: int | None = None,
        temperature: float = 0.07,
        momentum: float = 0.5,
        variant: str = "nce",
        positives: str = "bank",
        exclude_class: bool = True,
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        check_choice("positives", positives, POSITIVES)
        if negatives is not None and negatives < 1:
            raise ValueError(f"negatives must be ≥ 1 or null, got {negatives!r}")
        if dim < 1:
            raise ValueError(f"dim must be ≥ 1, got {dim!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        self.tap, self.dim, self.negatives = tap, dim, negatives
        self.temperature, self.momentum = check_temperature(temperature), momentum
        self.variant, self.positives, self.exclude_class = variant, positives, exclude_class
        self.needs_labels = exclude_class
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
        student_rows, teacher_rows = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(student_rows):
            s = F.normalize(self.student_embedding(student_rows), dim=1)
            t = F.normalize(self.teacher_embedding(teacher_rows), dim=1)
        drawn = torch.randint(len(self.labels), (self.count,), device=s.device)
        allowed = self._allowed(drawn, batch)
        negatives = (self.teacher_bank[drawn], self.student_bank[drawn])
        positives = self._positives(s, t, batch.index)
        positive, negative = similarities((s, t), positives, negatives, self.temperature)
        loss = both_anchors(positive, negative, allowed, self._log_c(negative, allowed))
        if self.training:
            self._update_banks(s.detach(), t.detach(), batch.index)
        return loss

    def _positives(self, student: Tensor, teacher: Tensor, index: Tensor) -> Sides:
        """Partners of the student's anchors and of the teacher's, each [B, D]."""
        if self.positives == "batch":
            return teacher, student
        seen = self.teacher_bank[index].any(1, keepdim=True)
        return (
            torch.where(seen, self.teacher_bank[index], teacher.detach()),
            torch.where(seen, self.student_bank[index], student.detach()),
        )

    @torch.no_grad()
    def _update_banks(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Average the batch into the banks, after their rows have been copied for the loss."""
        for bank, rows in ((self.student_bank, student), (self.teacher_bank, teacher)):
            bank.index_copy_(0, index, average(bank[index], rows, self.momentum))

    def _allowed(self, drawn: Tensor, batch: Batch) -> Tensor:
        """Whether each of the drawn rows [K] is a negative of each image: [B, K]."""
        seen = self.teacher_bank[drawn].any(1)
        if self.exclude_class:
            return seen & (self.labels[drawn] != batch.target[:, None])
        return seen & (drawn != batch.index[:, None])

    @torch.no_grad()
    def _log_c(self, negative: Sides, allowed: Tensor) -> Tensor:
        """log c of both anchors [2]; Z is averaged over the first batches that have negatives."""
        if self.variant == "paper":
            return self.log_z + math.log(self.count / len(self.labels))
        if not self.training:
            return self.log_z + math.log(self.count)
        new = torch.stack([log_mean_exp(scores, allowed) for scores in negative])
        mean = torch.logaddexp(self.log_z + self.estimates.log(), new) - (self.estimates + 1).log()
        estimated = (self.estimates < ESTIMATED) & allowed.any()
        self.log_z.copy_(torch.where(estimated, mean, self.log_z))
        self.estimates.add_(estimated)
        return self.log_z + math.log(self.count)
