"""Callback that stops a run whose loss is no longer finite."""

from math import isfinite
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from kd.errors import UserError


class StopOnDivergence(Callback):
    """Raises an error that names the first step at which each loss term was not finite.

    The terms of every step are checked on their device. On the CPU the result is read after every
    step, on other devices every `every` steps and after the epoch: reading it waits for all queued
    kernels.

    Args:
        every: steps between two reads on an accelerator.

    Raises:
        UserError: a term is NaN or infinite.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_bad: dict[str, torch.Tensor] = {}  # step by term; −1: all finite so far

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        terms, step = outputs["terms"], trainer.global_step
        on_cpu = outputs["loss"].device.type == "cpu"
        if on_cpu and all(isfinite(term.item()) for term in terms.values()):
            return
        for name, term in terms.items():
            known = self.first_bad.get(name, torch.full_like(term, -1))
            self.first_bad[name] = torch.where(~term.isfinite() & (known < 0), step, known)
        if on_cpu or step % self.every == 0:
            self._raise_if_bad()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad()

    def _raise_if_bad(self) -> None:
        steps = {name: int(step) for name, step in self.first_bad.items()}
        bad = [f"{name!r} (step {step})" for name, step in steps.items() if step >= 0]
        if bad:
            raise UserError(
                f"the loss is not finite: {', '.join(bad)}. Lower optimizer.lr or the term's "
                "weight, clip with trainer.gradient_clip_val=1, lengthen scheduler.warmup, or use "
                "trainer.precision=32-true"
            )
