"""Gradient norms of the loss terms over the first batches, to see which one dominates."""

import logging
import math
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kd.distillers.base import Distiller

log = logging.getLogger(__name__)

DOMINATED = 100.0  # ratio of gradient norms above which the smaller term has no visible effect


class GradientNorms(Callback):
    """Prints each term's value, weight and weighted gradient norm on the student.

    The figures are means over the first batches that train the student, printed once. A warning
    names the terms whose gradient is a hundredth of the largest or less. Training is not changed.

    Args:
        batches: number of batches, at least 1.

    Raises:
        ValueError: `batches` is below 1.
    """

    def __init__(self, batches: int = 5) -> None:
        if batches < 1:
            raise ValueError(f"batches must be ≥ 1, got {batches!r}")
        self.batches = batches
        # Value, weight and norm by term, one dictionary a batch. The norm is of weight · value:
        # what the term contributes to the student's step.
        self.rows: list[dict[str, tuple[float, float, float]]] = []
        self._reported = False

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        if len(self.rows) == self.batches:
            return
        distiller = cast(Distiller, pl_module)
        student = [p for p in distiller.student.parameters() if p.requires_grad]
        found = {}
        for name, (weight, term) in distiller.weighted.items():
            norm = gradient_norm(weight * term, student)
            if norm is not None:
                found[name] = (term.item(), weight, norm)
        if found:  # a first stage may train adapters alone
            self.rows.append(found)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.rows) == self.batches:
            self._report()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report()  # of a training with fewer batches

    def _report(self) -> None:
        if self._reported or not self.rows:
            return
        self._reported = True
        table = Table(title=f"terms of the loss, mean of the first {len(self.rows)} batches")
        for column in ("term", "value", "weight", "gradient norm on the student"):
            table.add_column(column, justify="left" if column == "term" else "right")
        means = {name: self._mean(name) for name in self.rows[-1]}
        for name, (value, weight, norm) in means.items():
            table.add_row(name, f"{value:.4g}", f"{weight:.4g}", f"{norm:.4g}")
        Console().print(table)
        for line in dominated({name: norm for name, (_, _, norm) in means.items()}):
            log.warning(line)

    def _mean(self, name: str) -> tuple[float, ...]:
        rows = [row[name] for row in self.rows if name in row]
        return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


def gradient_norm(term: Tensor, parameters: list[torch.nn.Parameter]) -> float | None:
    """Return the L2 norm of a scalar's gradient over all parameters.

    Returns:
        0 for a term without gradients; None for a term that none of the parameters enters.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> gradient_norm((weight * torch.tensor([3.0, 4.0])).sum(), [weight])
        5.0
    """
    if not term.requires_grad:
        return 0.0
    grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    if all(grad is None for grad in grads):
        return None
    norms = [float(grad.float().norm()) for grad in grads if grad is not None]
    return math.hypot(*norms)


def dominated(norms: dict[str, float]) -> list[str]:
    """Return one warning for each term whose norm is a hundredth of the largest or less.

    Example:
        >>> dominated({"soft": 500.0, "hard": 2.0})[0][:46]
        "the term 'hard' is dominated by 'soft': its gr"
    """
    strongest = max(norms, key=lambda name: norms[name])
    return [
        f"the term {name!r} is dominated by {strongest!r}: its gradient on the student is "
        f"{norm:.3g} against {norms[strongest]:.3g}; change their weights"
        for name, norm in norms.items()
        if norm * DOMINATED <= norms[strongest] and name != strongest
    ]
