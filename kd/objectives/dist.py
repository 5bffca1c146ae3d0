"""Which class goes with which, within a sample and across the batch, whatever the probabilities.

    L = T² · [ β · (1/B) Σ_i (1 − ρ(p_s[i, :], p_t[i, :]))
             + γ · (1/K) Σ_k (1 − ρ(p_s[:, k], p_t[:, k])) ]

p = softmax(z / T), ρ Pearson's correlation: of the K classes of a sample (the paper's inter-class
relation) and of the B samples of a class (its intra-class relation).

Huang, You, Wang, Qian & Xu, "Knowledge Distillation from A Stronger Teacher", 2022 (DIST). The
factor T² stands in the authors' code, not in the paper's equations. The second sum depends on the
batch: with few samples ρ is noisy, and with one it says nothing. A row or column that is constant
in either net has no correlation; it counts as uncorrelated, ρ = 0, and passes no gradient, where
the formula's would be infinite.
"""

from torch import Tensor
from torch.nn.functional import softmax

from kd.objectives.base import LogitObjective, check_temperature
from kd.objectives.pairs import ONE_BATCH

# Squared length below which a centred row of probabilities is no more than rounding.
_CONSTANT = 1e-14


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − ρ of the rows of two matrices [M, N], mean over the rows."""
    ours, theirs = (rows - rows.mean(1, keepdim=True) for rows in (student, teacher))
    lengths = [rows.square().sum(1) for rows in (ours, theirs)]
    varies = (lengths[0] > _CONSTANT) & (lengths[1] > _CONSTANT)
    # Each root on its own: the product of the squares underflows. The clamp keeps the gradient of
    # rows that are masked out finite.
    scale = lengths[0].clamp_min(_CONSTANT).sqrt() * lengths[1].clamp_min(_CONSTANT).sqrt()
    correlation = (ours * theirs).sum(1) / scale
    return (1 - correlation.where(varies, 0.0)).mean()


class PredictionRelations(LogitObjective):
    """Pearson's distance of the two nets' probabilities, by samples and by classes.

    Args:
        temperature: T > 0, for both nets.
        beta: the weight β ≥ 0 of the classes within a sample.
        gamma: the weight γ ≥ 0 of the samples within a class.
        standardise: as `LogitObjective`.
    """

    one_device = ONE_BATCH

    def __init__(
        self,
        temperature: float = 4.0,
        beta: float = 2.0,
        gamma: float = 2.0,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        for name, weight in {"beta": beta, "gamma": gamma}.items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.beta, self.gamma = beta, gamma

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (softmax(z / self.temperature, dim=1) for z in (student, teacher))
        within_samples = pearson_distance(ours, theirs)
        within_classes = pearson_distance(ours.T, theirs.T)
        return (self.beta * within_samples + self.gamma * within_classes) * self.temperature**2
