"""Mean teacher: the exponential moving average of the student's weights.

    θ'_n = d_n θ'_(n−1) + (1 − d_n) θ_n,    d_n = min(1 − 1/(n + 1), decay),    n = 1, 2, … steps

Tarvainen & Valpola, "Mean teachers are better role models: Weight-averaged consistency targets
improve semi-supervised deep learning results", NeurIPS 2017, https://arxiv.org/abs/1703.01780.
θ'_0 = θ_0 are the initial weights. As in the published code, the average is the plain mean of
θ_0 … θ_n until n = decay / (1 − decay).

Differences from the paper: there are no unlabelled images, and student and teacher see the same
view of an image; with `views=2` each sees its own, as in the paper. By default the teacher runs in
eval mode, and its buffers are the student's; the published teacher runs in training mode
(`noisy=true`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.distillers.views import check_views, views_of
from kd.metrics import Evaluation
from kd.objectives.base import Objective
from kd.taps import Taps
from kd.types import Batch


@torch.no_grad()
def update_average(
    decay: float, average: Sequence[Tensor], weights: Sequence[Tensor], step: Tensor | int
) -> None:
    """Move the average towards the weights in place; `multi_avg_fn` of `AveragedModel`.

    Args:
        decay: of the average in the long run.
        average: θ'_(n−1), becomes θ'_n.
        weights: θ_n.
        step: n, from 1.

    Example:
        >>> average = torch.zeros(1)
        >>> for step, weight in enumerate((3.0, 6.0, 6.0), 1):
        ...     update_average(0.6, [average], [torch.tensor([weight])], step)
        ...     print(round(average.item(), 2))
        1.5
        3.3
        4.38
    """
    rate = 1 - min(1 - 1 / (int(step) + 1), decay)
    for ours, theirs in zip(average, weights, strict=True):
        ours.lerp_(theirs, rate)


class WeightAverage(AveragedModel):
    """The moving average of a net's weights; parameters without gradients.

    Args:
        net: the net to average; copied with its hooks.
        decay: of the average in the long run, in [0, 1).
        noisy: follow the surrounding module into training mode; else stay in eval mode.

    Raises:
        ValueError: `decay` is out of range.
    """

    def __init__(self, net: nn.Module, decay: float, noisy: bool = False) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}")
        super().__init__(net, multi_avg_fn=partial(update_average, decay))
        self.requires_grad_(False)
        self.noisy = noisy
        self.train(self.training)
        # AveragedModel copies at its first update. That is θ_0; step n finds n_averaged = n.
        self.update_parameters(net)

    def train(self, mode: bool = True) -> "WeightAverage":
        return super().train(mode and self.noisy)


class MeanTeacherDistiller(Distiller):
    """The teacher is the moving average of the student's weights, run on the student's batch.

    The student is selected, tested and saved; the average is part of the checkpoint. Logs
    `val/ema/acc` and `test/ema/acc` of the average.

    Args:
        student: as `Distiller`.
        tap_paths: as `Distiller`.
        objectives: as `Distiller`.
        decay: of the average, in [0, 1).
        noisy: run the teacher in training mode, with dropout and the statistics of the batch.
        views: 1, or 2: the teacher sees another view of each image than the student.
        **options: as `Distiller`.

    Raises:
        ValueError: `decay` or `views` is out of range.
    """

    teacher_kind = "itself"
    two_views = "nets"

    def __init__(
        self,
        student: nn.Module,
        tap_paths: Mapping[str, str],
        objectives: Mapping[str, Objective],
        decay: float = 0.999,
        noisy: bool = False,
        views: int = 1,
        **options: Any,
    ) -> None:
        self.views = check_views(views)
        average = WeightAverage(student, decay, noisy)  # copied before the student has hooks
        super().__init__(student=student, tap_paths=tap_paths, objectives=objectives, **options)
        self.average = average
        wanted = [tap for objective in objectives.values() for tap in objective.teacher_taps]
        self.average_taps = Taps(average.module, tap_paths, wanted)
        self.average_val = Evaluation(self.num_classes)
        self.average_test = Evaluation(self.num_classes)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        if not with_teacher:
            return {"": Pairing(student)}
        with torch.no_grad():
            seen = views_of(batch, self.views)[-1]
            return {"": Pairing(student, self.average_taps.outputs(seen))}

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student, teacher = self.student_taps.probe(images), self.average_taps.probe(images)
        # No teacher_head: methods that read one copy it once, and this one changes.
        return {"": Pairing(student, teacher, student_head=self.student_taps.head)}

    def compile_nets(self, mode: str) -> None:
        super().compile_nets(mode)
        self.average.module.compile(mode=mode)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then update the average.

        Not in on_train_batch_end: callbacks run theirs before the module's, so a checkpoint saved
        there would hold an average that is one step behind. With accumulated gradients this hook
        is called for complete steps only.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.average.update_parameters(self.student)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        super().validation_step(batch, batch_index)
        self.average_val.update(self.average(batch.input), batch.target)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("val/ema/acc", self.average_val.compute()["acc"])

    def test_step(self, batch: Batch, batch_index: int) -> None:
        super().test_step(batch, batch_index)
        self.average_test.update(self.average(batch.input), batch.target)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.log_test({"test/ema/acc": self.average_test.compute()["acc"]})
