"""Validation and test loops that all modes share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn

from kd.tasks import task_named
from kd.tasks.base import Task
from kd.types import Batch


class EvaluatedModule(LightningModule, ABC):
    """A LightningModule that logs the figures of its task under the keys of result.json.

    For a classifier, validation logs `val/acc` and `val/nll`; the test adds `test/ece` and, if
    teacher logits are available, `test/agreement`. See `kd.metrics.Evaluation`.

    Args:
        num_classes: K.
        task: what the student is trained for; None: image classification.

    Attributes:
        test_suffix: appended to the keys of the test figures; `_last` while the weights of the
            last epoch are tested.
    """

    def __init__(self, num_classes: int, task: Task | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.task = task or task_named("image_classification")
        self.val_figures = self.task.evaluation(num_classes)
        self.test_figures = self.task.evaluation(num_classes, closely=True)
        self.test_suffix = ""

    @property
    def hparams_metric(self) -> str:
        """Metric of TensorBoard's HPARAMS tab, which is declared together with the settings."""
        return f"hp/val_{self.task.selection}"

    @abstractmethod
    def deployed(self) -> nn.Module:
        """Return the net that is tested and saved: an input of the task -> its outputs."""

    @abstractmethod
    def predict(self, input: Tensor) -> Tensor:
        """Return the outputs of a batch's input, as at inference: logits [B, K] of a classifier."""

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        """Return the teacher's logits [B, K] on a test batch; None: there is no agreement."""
        return None

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.val_figures.update(self._answers(batch), batch.target)

    def _answers(self, batch: Batch) -> Any:
        return self.task.answers(self.deployed(), self.predict(batch.input))

    def on_validation_epoch_end(self) -> None:
        figures = {f"val/{k}": v for k, v in self.val_figures.compute().items()}
        self.log_dict(figures, prog_bar=True)
        self.log(self.hparams_metric, figures[self.task.monitor])
        if not self.trainer.sanity_checking:
            self.on_validation_score(figures[self.task.monitor].item())

    def on_validation_score(self, score: float) -> None:
        """Hook: called with the selecting figure after every validation but the sanity check."""

    def test_step(self, batch: Batch, batch_index: int) -> None:
        teacher = self.teacher_test_logits(batch)
        self.test_figures.update(self._answers(batch), batch.target, teacher)

    def on_test_epoch_end(self) -> None:
        self.log_test({f"test/{k}": v for k, v in self.test_figures.compute().items()})

    def log_test(self, figures: Mapping[str, Tensor]) -> None:
        """Log figures of the test set under their keys in result.json."""
        self.log_dict({f"{name}{self.test_suffix}": value for name, value in figures.items()})
