"""Directions of the logits: both nets' rows are brought to one length before they are compared.

    ẑ = l · (z − mean(z)) / ‖z − mean(z)‖,    l = (1/B) Σ_i ‖z_t[i] − mean(z_t[i])‖
    toward the teacher: L = T² · (1/B) Σ_i KL(softmax(ẑ_t[i] / T) ‖ softmax(ẑ_s[i] / T))
    toward the labels:  L = −(1/B) Σ_i log softmax(ẑ_s[i])[y_i]

The student is compared on the teacher's average sphere, and how sure either net is, which is the
length of its logits, plays no part. The paper takes the labels' term on the sphere too, so that no
term trains the student's length; its predictions are the same with and without it.

Guo, Chen, Hu, Zhu, He & Cai, "Reducing the Teacher-Student Gap via Spherical Knowledge
Distillation", 2020. The paper's l is the teacher's average; the authors' code has a constant
instead, two or three times √K (layer norm times a `multiplier`), and says that it makes little
difference. Here l is the average over the batch, which needs no pass over the data. A row of equal
logits has no direction; it stays 0.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature
from kd.objectives.kd import kd

_AIMS = ("labels", "teacher")


def on_sphere(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of [B, K], centred and of length 1, and their length before, [B, 1]."""
    centred = logits - logits.mean(1, keepdim=True)
    # sqrt has no gradient at 0, where a row of equal logits lies
    length = centred.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    return centred / length, length


class Spherical(LogitObjective):
    """Soft targets, or the labels' cross-entropy, on the teacher's average sphere.

    Args:
        temperature: T > 0, for both nets; the labels' term has none.
        toward: `teacher` or `labels`.
        standardise: as `LogitObjective`; the directions stay what they are, l becomes √(K − 1).
    """

    one_device = "the sphere's radius is an average over the whole batch"

    def __init__(
        self, temperature: float = 4.0, toward: str = "teacher", standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        if toward not in _AIMS:
            raise ValueError(f"toward must be one of {list(_AIMS)}, got {toward!r}")
        self.toward = toward

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        (ours, _), (theirs, length) = on_sphere(student), on_sphere(teacher)
        radius = length.mean()
        if self.toward == "labels":
            return F.cross_entropy(radius * ours, target)
        return kd(radius * ours, radius * theirs, self.temperature)
