"""The loss of a step by parts, for optimizers that keep a momentum for each."""

import torch
from torch import Tensor

from kd.objectives.base import Objective
from kd.optimizers.base import PartsOptimizer
from kd.types import Batch, Outputs


class LossParts:
    """Sums of weighted terms by part of the loss, and their gradients.

    Terms that learn labels are the first part of `PartsOptimizer.parts`, all others the last one.
    An optimizer `by_class` has the soft terms' part of the label in between.

    Args:
        optimizer: gets the gradients.
    """

    def __init__(self, optimizer: PartsOptimizer) -> None:
        self.optimizer = optimizer
        self._sums: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Start a step."""
        self._sums = {}

    def term(
        self, objective: Objective, weight: float, outputs: tuple[Outputs, Outputs], batch: Batch
    ) -> Tensor:
        """Compute a term, unweighted, and add it to its part of the loss.

        Args:
            objective: the term.
            weight: in the loss.
            outputs: of the student and of its teacher.
            batch: of the step.
        """
        task, *_, last = self.optimizer.parts
        if self.optimizer.by_class and objective.by_class and not objective.learns_labels:
            share = self.optimizer.share(objective.progress)
            label, others = objective.class_terms(*outputs, batch, share)
            self._add("label", weight * label)
            self._add(last, weight * others)
            return label + others
        value = objective(*outputs, batch)
        self._add(task if objective.learns_labels else last, weight * value)
        return value

    def _add(self, part: str, value: Tensor) -> None:
        self._sums[part] = self._sums[part] + value if part in self._sums else value

    def backward(self, scale: float) -> None:
        """Compute the gradient of each part, and pass it to the optimizer.

        Args:
            scale: factor of the loss, less than 1 where gradients are accumulated.
        """
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.requires_grad]
        sums = {part: value for part, value in self._sums.items() if value.requires_grad}
        for number, (part, value) in enumerate(sums.items(), 1):
            gradients = torch.autograd.grad(
                scale * value, parameters, retain_graph=number < len(sums), allow_unused=True
            )
            self.optimizer.add(part, parameters, gradients)
        self._sums = {}
