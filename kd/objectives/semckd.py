"""Every stage of the student, matched with all stages of the teacher, each as far as it is alike.

    L = (1/(B·S)) Σ_b Σ_s Σ_t α[b, s, t] · ⟨(P_st(F_s)[b] − F_t[b])²⟩
    α = softmax over t of q_s·k_t,    q_s[b] = MLP_s(A_s[b]),    k_t[b] = MLP_t(A_t[b])

A = F·Fᵀ [B, B] is a stage's similarity of all images of the batch, F flattened to [B, C·H·W]; q and
k are brought to unit length. S is the number of the student's stages, ⟨·⟩ the mean over channels
and positions, P_st a trained projection; the map of the higher resolution is averaged down to the
other's.

Chen, Mei, Zhang, Wang, Feng & Chen, "Cross-Layer Distillation with Semantic Calibration", 2021. A
row of A has one entry an image, so the paper's MLPs are as wide as the batch, and a batch of
another size cannot be read. Here image j of a batch of any size B meets column j mod N of an MLP
made for N images, times N/B: the paper's formula for B = N, the leading columns alone for smaller
batches, and unchanged when a batch is repeated whole. As in the paper, α depends on the batch's
order. The mean over the student's stages is the authors' code's, as is the width N/4 of q and k.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import paired_maps, resample, smaller_size
from kd.objectives.pairs import ONE_BATCH
from kd.types import Batch, Outputs


def similarity_rows(maps: Tensor, width: int) -> Tensor:
    """Products of all images' maps [B, B], folded to rows [B, width]; the identity for width B."""
    flat = maps.flatten(1)
    rows = flat @ flat.T
    count = rows.shape[1]
    folded = F.pad(rows, (0, -count % width)).unflatten(1, (-1, width)).sum(1)
    return folded * (width / count)


def stage_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax over the teacher's stages [B, S, T] of queries [B, S, D] and keys [B, T, D]."""
    scores = F.normalize(queries, dim=2) @ F.normalize(keys, dim=2).transpose(1, 2)
    return F.softmax(scores, dim=2)


def embedder(width: int) -> nn.Sequential:
    """The MLP on a row of similarities: width -> width / 2 -> width / 4."""
    out = max(width // 4, 1)
    return nn.Sequential(nn.Linear(width, 2 * out), nn.ReLU(), nn.Linear(2 * out, out))


def projection(narrow: int, wide: int) -> nn.Sequential:
    """1×1, 3×3 and 1×1 convolutions, twice the teacher's channels wide in between."""
    mid = 2 * wide
    layers: list[nn.Module] = []
    for i, kernel in ((narrow, 1), (mid, 3)):
        convolution = nn.Conv2d(i, mid, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(mid), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(mid, wide, 1, bias=False))


class SemanticCalibration(Objective):
    """Attention-weighted squared distances of all pairs of a student's and a teacher's stage.

    Args:
        student_stages: the student's taps, with maps [B, C, H, W].
        teacher_stages: the teacher's; as many as it has.
        batch_size: N, the batch size that the attention is made for.
    """

    family = "feature"
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
        for s, t in self._pairs():
            ours, theirs = paired_maps("semckd", student, teacher, s, t)
            self.projections[f"{s}-{t}"] = projection(ours.shape[1], theirs.shape[1])

    def _pairs(self) -> list[tuple[str, str]]:
        return [(s, t) for s in self.student_taps for t in self.teacher_taps]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        distances = [self._distance(s, t, student, teacher) for s, t in self._pairs()]
        attention = self.attention(student, teacher)
        table = torch.stack(distances, 1).unflatten(1, attention.shape[1:])
        return (attention * table).sum(2).mean()

    def attention(self, student: Outputs, teacher: Outputs) -> Tensor:
        """α [B, S, T]."""
        with torch.autocast(student.logits.device.type, enabled=False):
            return stage_attention(
                self._embed(self.queries, student), self._embed(self.keys, teacher)
            )

    def _embed(self, embedders: nn.ModuleDict, outputs: Outputs) -> Tensor:
        rows = [
            mlp(similarity_rows(outputs.taps[tap].float(), self.batch_size))
            for tap, mlp in embedders.items()
        ]
        return torch.stack(rows, 1)

    def _distance(self, s: str, t: str, student: Outputs, teacher: Outputs) -> Tensor:
        ours, theirs = student.taps[s], teacher.taps[t]
        size = smaller_size(ours, theirs)
        projected = self.projections[f"{s}-{t}"](resample(ours, size)).float()
        return (projected - resample(theirs, size).float()).square().mean((1, 2, 3))
