"""Mean teacher: the student is taught by the moving average of its own weights.

    θ'_n = d_n θ'_(n−1) + (1 − d_n) θ_n,    d_n = min(1 − 1/(n + 1), decay),    n = 1, 2, … steps

Tarvainen & Valpola, "Mean teachers are better role models", 2017. θ'_0 = θ_0 are the initial
weights; as in the authors' code the average is the plain mean of θ_0 … θ_n at first, until n =
decay/(1 − decay). Batch norm's statistics and other buffers are copied from the student.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.metrics import Evaluation
from kd.objectives.base import Objective
from kd.taps import Taps
from kd.types import Batch


class Average(nn.Module):
    """The moving average of a net's weights; it gets no gradients.

    Args:
        net: what is averaged; copied, hooks and all.
        decay: what is kept at each step in the long run, in [0, 1).
        noisy: follow the modules around into training mode; else stay in eval mode.
    """

    def __init__(self, net: nn.Module, decay: float, noisy: bool = False) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}")
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay, self.noisy = decay, noisy
        self.train(self.training)

    def train(self, mode: bool = True) -> "Average":
        return super().train(mode and self.noisy)

    @torch.no_grad()
    def follow(self, net: nn.Module, step: int) -> None:
        """Take in the net's weights after its optimizer step number `step`, from 1."""
        rate = 1 - min(1 - 1 / (step + 1), self.decay)
        for ours, theirs in zip(self.net.parameters(), net.parameters(), strict=True):
            ours.lerp_(theirs, rate)
        for mine, buffer in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(buffer)


class MeanTeacherDistiller(Distiller):
    """The averaged net sees the student's own batch and answers without noise, or with it.

    The student is what is selected, tested and saved; the averaged net is in the checkpoint, and
    its accuracy is logged as `val/ema/acc` and `test/ema/acc`. In the paper the teacher sees
    another augmentation than the student, and unlabelled images too; here it sees the same view.

    Args:
        student: as `Distiller`.
        tap_paths: as `Distiller`.
        objectives: as `Distiller`.
        decay: of the average, in [0, 1).
        noisy: the teacher answers in training mode, as in the paper, with dropout and the batch's
            own statistics.
        **options: as `Distiller`.
    """

    teacher_kind = "itself"

    def __init__(
        self,
        student: nn.Module,
        tap_paths: Mapping[str, str],
        objectives: Mapping[str, Objective],
        decay: float = 0.999,
        noisy: bool = False,
        **options: Any,
    ) -> None:
        average = Average(student, decay, noisy)  # before the student has hooks
        super().__init__(student=student, tap_paths=tap_paths, objectives=objectives, **options)
        self.average = average
        wanted = [tap for objective in objectives.values() for tap in objective.teacher_taps]
        self.average_taps = Taps(average.net, tap_paths, wanted)
        self.average_val = Evaluation(self.num_classes)
        self.average_test = Evaluation(self.num_classes)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        if not with_teacher:
            return {"": Pairing(student)}
        with torch.no_grad():
            return {"": Pairing(student, self.average_taps.outputs(batch.input))}

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student, teacher = self.student_taps.probe(images), self.average_taps.probe(images)
        # No teacher's head: it changes, and methods that read one copy it once.
        return {"": Pairing(student, teacher, student_head=self.student_taps.head)}

    def compile_nets(self, mode: str) -> None:
        super().compile_nets(mode)
        self.average.net.compile(mode=mode)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, and let the average follow.

        Not in on_train_batch_end: callbacks have theirs before, and would save a checkpoint whose
        average is a step behind. Batches whose gradients are accumulated do not come here.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.average.follow(self.student, self.global_step + 1)  # which counts finished steps

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        super().validation_step(batch, batch_index)
        self.average_val.update(self.average.net(batch.input), batch.target)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("val/ema/acc", self.average_val.compute()["acc"])

    def test_step(self, batch: Batch, batch_index: int) -> None:
        super().test_step(batch, batch_index)
        self.average_test.update(self.average.net(batch.input), batch.target)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.log_test({"test/ema/acc": self.average_test.compute()["acc"]})
