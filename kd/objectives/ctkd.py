"""Soft targets at a temperature that is trained to make them hard, ever more so at first.

    L = T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    T = T_0 + R · σ(θ),    p^T = softmax(z / T)

The student descends on L; θ, one number for all samples, ascends on it: its gradient is multiplied
by −λ. The factor λ rises from 0 to 1 along half a cosine over a first part of the run,
λ = (1 − cos(π · min(progress / ramp, 1))) / 2, and stays at 1, so that the task goes from easy to
hard. Ascent cannot run away: KL falls where T² grows.

Li, Li, Yang, Zhao, Song, Luo, Li & Yang, "Curriculum Temperature for Knowledge Distillation", 2023.
The paper also has a temperature by sample, from a small net on both logits; this is its global one.
The authors' code counts λ down from 0 to −1 in place of the minus sign, which is the same, and
steps it once an epoch; here it moves with every step. θ is trained like the student's weights.
"""

import math

import torch
from torch import Tensor, nn

from kd.objectives.base import LogitObjective
from kd.objectives.kd import kd


def reverse_gradient(parameter: Tensor, factor: float) -> Tensor:
    """The parameter's value, with its gradient multiplied by −factor."""
    return parameter.detach() - factor * (parameter - parameter.detach())


class CurriculumTemperature(LogitObjective):
    """T²·KL of softened probabilities under a temperature that works against the student.

    Args:
        lowest: T_0 > 0, below which the temperature never falls.
        span: R > 0, how far it may rise above that.
        theta: where θ starts.
        ramp: the share of the run, in (0, 1], over which λ rises to 1.
        standardise: as `LogitObjective`.
    """

    def __init__(
        self,
        lowest: float = 1.0,
        span: float = 20.0,
        theta: float = 1.0,
        ramp: float = 10 / 240,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        for name, value in {"lowest": lowest, "span": span}.items():
            if value <= 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp must be a share of the run in (0, 1], got {ramp!r}")
        self.lowest, self.span, self.ramp = lowest, span, ramp
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    @property
    def reversal(self) -> float:
        """λ now."""
        return (1 - math.cos(math.pi * min(self.progress / self.ramp, 1.0))) / 2

    def temperature(self) -> Tensor:
        """T now, with the reversed gradient."""
        theta = reverse_gradient(self.theta, self.reversal)
        return self.lowest + self.span * theta.float().sigmoid()

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        temperature = self.temperature()
        return kd(student / temperature, teacher / temperature, 1.0) * temperature**2
