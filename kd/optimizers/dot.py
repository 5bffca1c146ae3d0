"""Distillation-oriented trainer (DOT): momenta of their own for the labels and for the teacher.

    v_task ← (μ − Δ) · v_task + g_task + λ·θ
    v_kd   ← (μ + Δ) · v_kd + g_kd
    θ      ← θ − lr · (v_task + v_kd)

g_task is the gradient of the terms of the labels, g_kd that of all others, both with their weights;
λ is the weight decay.

Paper: Zhao, Cui, Song & Liang, "DOT: A Distillation-Oriented Trainer", ICCV 2023,
https://arxiv.org/abs/2307.08436. With one momentum for both, the labels' gradient takes over early
and the teacher's loss stays higher than in training on the teacher alone; a larger momentum keeps
the direction of the teacher's gradient. With Δ = 0 this is SGD with momentum.

The authors' code gives a parameter that one of the two gradients does not reach the momentum μ and
forgets the buffer of a gradient that is absent; here an absent gradient counts as 0.
"""

from collections.abc import Mapping
from typing import Any

from torch.optim.optimizer import ParamsT

from kd.optimizers.base import PartsOptimizer


class DOT(PartsOptimizer):
    """SGD with the momenta μ − Δ for the labels' gradient and μ + Δ for the teacher's.

    Args:
        params: parameters, or groups of them.
        lr: learning rate ≥ 0.
        momentum: μ.
        delta: Δ; μ − Δ and μ + Δ must be in [0, 1).
        weight_decay: λ ≥ 0.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = DOT([weight], lr=1.0, momentum=0.5, delta=0.25, weight_decay=0.0)
        >>> for _ in range(2):
        ...     optimizer.add("task", [weight], [torch.tensor([1.0])])
        ...     optimizer.add("distillation", [weight], [torch.tensor([1.0])])
        ...     optimizer.step()
        >>> weight.item()  # −(1 + 1) − (1.25 + 1.75)
        -5.0
    """

    parts = ("task", "distillation")
    decayed = "task"

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.05,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 5e-4,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay}
        super().__init__(params, settings)

    def momenta(self, settings: Mapping[str, Any]) -> dict[str, float]:
        momentum, delta = settings["momentum"], settings["delta"]
        return {"task": momentum - delta, "distillation": momentum + delta}
