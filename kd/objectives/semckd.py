"""Semantic calibration (SemCKD): each student stage matches all teacher stages, by attention.

    L = (1/(B·S)) Σ_b Σ_s Σ_t α[b, s, t] · ⟨(P_st(F_s)[b] − F_t[b])²⟩
    α = softmax over t of q_s·k_t,    q_s[b] = MLP_s(A_s[b]),    k_t[b] = MLP_t(A_t[b])

A = F·Fᵀ [B, B] holds a stage's similarities of all images of the batch, F flattened to [B, C·H·W];
q and k have unit norm. S is the number of student stages, ⟨·⟩ the mean over channels and positions,
P_st a trained projection. The map of the higher resolution is averaged down to the other's.

Paper: Chen, Mei, Zhang, Wang, Feng & Chen, "Cross-Layer Distillation with Semantic Calibration",
AAAI 2021, https://arxiv.org/abs/2012.03236.

A row of A has one entry per image, so the paper's MLPs are as wide as the batch and accept no other
batch size. Here image j of a batch of any size B goes to column j mod N of an MLP made for N
images, scaled by N/B. This is the paper's formula for B = N; smaller batches use the leading
columns only, and repeating all images of a batch does not change the value. As in the paper, α
depends on the order of the batch. The mean over the student's stages and the width N/4 of q and k
are those of the authors' code.

Reduction: mean over the batch, the student's stages, channels and positions; the weights α of the
teacher's stages sum to 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES, paired_maps, resample, smaller_size
from kd.objectives.pairs import ONE_BATCH, full_precision
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def semckd(pairs: Sequence[Sequence[tuple[Tensor, Tensor]]], attention: Tensor) -> Tensor:
    """Attention-weighted distances of stages.

    Args:
        pairs: `pairs[s][t]` holds the student's stage s, projected to the teacher's stage t, and
            the teacher's map, both [B, C_t, H, W] of one shape. S × T pairs.
        attention: α [B, S, T], non-negative and summing to 1 over T; see `stage_attention`.

    Returns:
        Scalar ≥ 0: mean over the batch, the student's stages, channels and positions.

    Example:
        One student stage and two teacher stages, with squared errors 1 and 4:

        >>> import torch
        >>> from kd import losses
        >>> student = torch.zeros(1, 2, 3, 3)
        >>> pairs = [[(student, student + 1), (student, student + 2)]]
        >>> losses.semckd(pairs, torch.tensor([[[0.5, 0.5]]])).item()
        2.5

    Reference:
        Chen et al. 2021, https://arxiv.org/abs/2012.03236
    """
    distances = [_distance(*pair) for stage in pairs for pair in stage]
    table = torch.stack(distances, 1).unflatten(1, attention.shape[1:])  # [B, S, T]
    return (attention * table).sum(2).mean()


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.float() - teacher.float()).square().mean((1, 2, 3))


def similarity_rows(maps: Tensor, width: int) -> Tensor:
    """Similarities of maps [B, C, H, W] to all B images, folded to `width` columns: [B, width].

    For width B these are the products themselves.
    """
    rows = maps.flatten(1)
    products = rows @ rows.T
    count = products.shape[1]
    folded = F.pad(products, (0, -count % width)).unflatten(1, (-1, width)).sum(1)
    return folded * (width / count)


def stage_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """α [B, S, T]: softmax over the teacher's stages, of queries [B, S, D] and keys [B, T, D]."""
    scores = F.normalize(queries, dim=2) @ F.normalize(keys, dim=2).transpose(1, 2)
    return F.softmax(scores, dim=2)


def embedder(width: int) -> nn.Sequential:
    """MLP from a row of similarities to a query or key: width → width / 2 → width / 4."""
    out = max(width // 4, 1)
    return nn.Sequential(nn.Linear(width, 2 * out), nn.ReLU(), nn.Linear(2 * out, out))


def projection(in_channels: int, out_channels: int) -> nn.Sequential:
    """1×1, 3×3 and 1×1 convolutions with 2 · out_channels between, as in the authors' code."""
    mid = 2 * out_channels
    layers: list[nn.Module] = []
    for channels, kernel in ((in_channels, 1), (mid, 3)):
        convolution = nn.Conv2d(channels, mid, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(mid), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(mid, out_channels, 1, bias=False))


class SemanticCalibration(Objective):
    """Semantic calibration as a loss term, with trained attention and projections.

    Args:
        student_stages: canonical names of the student's taps, with maps [B, C, H, W].
        teacher_stages: canonical names of the teacher's taps, any number.
        batch_size: N ≥ 1, the number of images that the attention's MLPs are made for.

    Raises:
        ValueError: a list of taps is empty, or `batch_size` is out of range.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True
    one_device = ONE_BATCH

    def __init__(
        self, student_stages: Sequence[str], teacher_stages: Sequence[str], batch_size: int
    ) -> None:
        super().__init__()
        if not student_stages or not teacher_stages:
            raise ValueError(
                "student_stages and teacher_stages must each name a tap, got "
                f"{list(student_stages)!r} and {list(teacher_stages)!r}"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be a whole number ≥ 1, got {batch_size!r}")
        self.student_taps, self.teacher_taps = tuple(student_stages), tuple(teacher_stages)
        self.batch_size = batch_size
        self.queries, self.keys = nn.ModuleDict(), nn.ModuleDict()
        self.projections = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.queries.update({tap: embedder(self.batch_size) for tap in self.student_taps})
        self.keys.update({tap: embedder(self.batch_size) for tap in self.teacher_taps})
        for s in self.student_taps:
            for t in self.teacher_taps:
                maps = paired_maps("semckd", student, teacher, s, t)
                self.projections[f"{s}-{t}"] = projection(*(m.shape[1] for m in maps))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        pairs = [
            [self._pair(s, t, student, teacher) for t in self.teacher_taps]
            for s in self.student_taps
        ]
        return semckd(pairs, self.attention(student, teacher))

    def attention(self, student: Outputs, teacher: Outputs) -> Tensor:
        """α [B, S, T] of a batch."""
        # Products over C·H·W entries and the softmax of their MLP need more than bfloat16's 8 bits.
        with full_precision(student.logits):
            return stage_attention(
                self._embed(self.queries, student), self._embed(self.keys, teacher)
            )

    def _embed(self, embedders: nn.ModuleDict, outputs: Outputs) -> Tensor:
        rows = [
            mlp(similarity_rows(outputs.taps[tap].float(), self.batch_size))
            for tap, mlp in embedders.items()
        ]
        return torch.stack(rows, 1)

    def _pair(self, s: str, t: str, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Student stage s projected to teacher stage t, and that stage, at the smaller size."""
        student_map, teacher_map = student.taps[s], teacher.taps[t]
        size = smaller_size(student_map, teacher_map)
        projected = self.projections[f"{s}-{t}"](resample(student_map, size))
        return projected, resample(teacher_map, size)
