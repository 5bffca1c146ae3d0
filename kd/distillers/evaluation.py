"""Validation and test loops that all modes share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from lightning import LightningModule
from torch import Tensor

from kd.metrics import Evaluation
from kd.types import Batch

# Shown in TensorBoard's HPARAMS tab; `kd.callbacks.hparams` declares it together with the settings.
HPARAMS_METRIC = "hp/val_acc"


class EvaluatedModule(LightningModule, ABC):
    """A LightningModule that logs the figures of a classifier under the keys of result.json.

    Validation logs `val/acc` and `val/nll`; the test adds `test/ece` and, if teacher logits are
    available, `test/agreement`. See `kd.metrics.Evaluation` for their definitions.

    Args:
        num_classes: K.

    Attributes:
        test_suffix: appended to the keys of the test figures; `_last` while the weights of the
            last epoch are tested.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.val_figures = Evaluation(num_classes)
        self.test_figures = Evaluation(num_classes, closely=True)
        self.test_suffix = ""

    @abstractmethod
    def predict(self, images: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, C, H, W], as at inference."""

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        """Return the teacher's logits [B, K] on a test batch; None: there is no agreement."""
        return None

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.val_figures.update(self.predict(batch.input), batch.target)

    def on_validation_epoch_end(self) -> None:
        figures = {f"val/{k}": v for k, v in self.val_figures.compute().items()}
        self.log_dict(figures, prog_bar=True)
        self.log(HPARAMS_METRIC, figures["val/acc"])
        if not self.trainer.sanity_checking:
            self.on_validation_accuracy(figures["val/acc"].item())

    def on_validation_accuracy(self, accuracy: float) -> None:
        """Hook: called after every validation epoch but the sanity check."""

    def test_step(self, batch: Batch, batch_index: int) -> None:
        logits = self.predict(batch.input)
        self.test_figures.update(logits, batch.target, self.teacher_test_logits(batch))

    def on_test_epoch_end(self) -> None:
        self.log_test({f"test/{k}": v for k, v in self.test_figures.compute().items()})

    def log_test(self, figures: Mapping[str, Tensor]) -> None:
        """Log figures of the test set under their keys in result.json."""
        self.log_dict({f"{name}{self.test_suffix}": value for name, value in figures.items()})
