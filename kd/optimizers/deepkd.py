"""DeepKD: a momentum for each of three gradients, and a growing mask of the other classes.

    v_part ← (μ + Δ_part) · v_part + g_part,    part: task, label, others
    θ      ← θ − lr · (v_task + v_label + v_others)

The soft term falls into the divergence of the label against the rest and the divergence among the
other classes (as in DKD): g_label and g_others are their gradients, g_task is that of the terms of
the labels. Other terms of the teacher, such as those of features, belong to `others`. Weight decay
is added to g_label, as in the authors' code.

The momenta follow the ratio of signal to noise of the gradients, E[g]² / Var[g] over the steps: it
is lower for g_label than for the other two, whose Δ is positive therefore, and that of the label
negative.

The mask leaves only the other classes of the teacher's largest logits in the divergence among
them, in both nets. Their share grows from `first` to `middle` over the first third of the run,
stays there for the second, and grows to all over the last.

Paper: Huang, Song, Zhang & Ren, "DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation
Trainer", NeurIPS 2025, https://arxiv.org/abs/2505.15133.

Where the authors' code (https://github.com/haiduo/DeepKD) differs: the buffer of g_task decays with
the momentum of g_label, whatever `task_delta` is; its number of classes in the mask is a constant,
0 (no mask) in its configs for CIFAR-100; the mask counts the label among the largest logits, so
that it leaves one class less where the teacher is right; the factor 1 − p_t[y] of the others in
soft targets is averaged over the batch apart from the divergence; the pairs of samples and classes
of MLKD belong to the task; and CRLD and MLKD have DKD's parts there, twice the others' without the
factor 1 − p_t[y] and with a warm-up, where here the two parts add up to the term of these methods.
The lengths of the mask's phases and `middle` are choices of this module.
"""

from collections.abc import Mapping
from typing import Any

from torch.optim.optimizer import ParamsT

from kd.optimizers.base import PartsOptimizer


class DeepKD(PartsOptimizer):
    """SGD with three momenta, and the share of the other classes that the teacher's terms compare.

    Args:
        params: parameters, or groups of them.
        lr: learning rate ≥ 0.
        momentum: μ; with each Δ added it must be in [0, 1).
        task_delta: Δ of the labels' terms.
        label_delta: Δ of the soft term's part of the label against the rest.
        others_delta: Δ of the part among the other classes.
        weight_decay: λ ≥ 0.
        first: share of the other classes at the beginning, in (0, 1].
        middle: share in the middle third of the run, at least `first`; 1 for both: no mask.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> optimizer = DeepKD([torch.nn.Parameter(torch.zeros(1))], first=0.2, middle=0.5)
        >>> [round(optimizer.share(progress), 2) for progress in (0.0, 1 / 6, 1 / 2, 5 / 6, 1.0)]
        [0.2, 0.35, 0.5, 0.75, 1.0]
    """

    parts = ("task", "label", "others")
    decayed = "label"
    by_class = True

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.05,
        momentum: float = 0.9,
        task_delta: float = 0.075,
        label_delta: float = -0.075,
        others_delta: float = 0.075,
        weight_decay: float = 5e-4,
        first: float = 0.05,
        middle: float = 0.5,
    ) -> None:
        if not 0 < first <= middle <= 1:
            raise ValueError(f"0 < first ≤ middle ≤ 1 must hold, got {first!r} and {middle!r}")
        self.first, self.middle = first, middle
        deltas = {
            "task_delta": task_delta,
            "label_delta": label_delta,
            "others_delta": others_delta,
        }
        settings = {"lr": lr, "momentum": momentum, **deltas, "weight_decay": weight_decay}
        super().__init__(params, settings)

    def momenta(self, settings: Mapping[str, Any]) -> dict[str, float]:
        return {part: settings["momentum"] + settings[f"{part}_delta"] for part in self.parts}

    def share(self, progress: float) -> float:
        rise, last = min(3 * progress, 1.0), max(3 * progress - 2, 0.0)
        return self.first + (self.middle - self.first) * rise + (1 - self.middle) * last
