"""A look at the terms of a loss: which one really moves the student?"""

import logging
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kd.distillers.base import Distiller

log = logging.getLogger(__name__)

DOMINATED = 100.0  # one term's gradient over another's


class GradientNorms(Callback):
    """Print each term's value, weight and gradient norm on the student over the first batches.

    A warning names the terms whose gradient is a hundredth of the strongest one's or less.

    Args:
        batches: how many batches are looked at.
    """

    def __init__(self, batches: int = 5) -> None:
        if batches < 1:
            raise ValueError(f"batches must be ≥ 1, got {batches!r}")
        self.batches = batches
        self.seen: list[dict[str, tuple[float, float, float]]] = []

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        if len(self.seen) == self.batches:
            return
        distiller = cast(Distiller, pl_module)
        student = [p for p in distiller.student.parameters() if p.requires_grad]
        found = {}
        for name, (weight, term) in distiller.weighted.items():
            norm = gradient_norm(weight * term, student)
            if norm is not None:
                found[name] = (term.item(), weight, norm)
        self.seen.append(found)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.seen) == self.batches and batch_idx == self.batches - 1:
            self._report()

    def _report(self) -> None:
        table = Table(title=f"terms of the loss, mean of the first {len(self.seen)} batches")
        for column in ("term", "value", "weight", "gradient norm on the student"):
            table.add_column(column, justify="left" if column == "term" else "right")
        means = {name: self._mean(name) for name in self.seen[-1]}
        for name, (value, weight, norm) in means.items():
            table.add_row(name, f"{value:.4g}", f"{weight:.4g}", f"{norm:.4g}")
        Console().print(table)
        for line in dominated({name: norm for name, (_, _, norm) in means.items()}):
            log.warning(line)

    def _mean(self, name: str) -> tuple[float, ...]:
        rows = [found[name] for found in self.seen if name in found]
        return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


def gradient_norm(term: Tensor, parameters: list[torch.nn.Parameter]) -> float | None:
    """L2 norm of a scalar's gradient over all parameters; None for a term of other nets."""
    if not term.requires_grad:
        return 0.0
    grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    if all(grad is None for grad in grads):
        return None
    return float(sum(grad.double().square().sum() for grad in grads if grad is not None)) ** 0.5


def dominated(norms: dict[str, float]) -> list[str]:
    """One sentence for every term that is dominated by the strongest."""
    strongest = max(norms, key=lambda name: norms[name])
    return [
        f"the term {name!r} is dominated by {strongest!r}: its gradient on the student is "
        f"{norm:.3g} against {norms[strongest]:.3g}; change their weights"
        for name, norm in norms.items()
        if norm * DOMINATED <= norms[strongest] and name != strongest
    ]
