"""What is measured of a net on a split."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)
from torchmetrics.functional.classification import multiclass_confusion_matrix


class Means:
    """Running means of named scalars, kept on their device until they are taken.

    Lightning's own `log` takes 0.5 ms a call, and a step of a small net on a CPU 10.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in one step's scalars; names may come and go."""
        for name, value in values.items():
            self.sums[name] = (
                self.sums[name].to(value.device) + value if name in self.sums else value
            )
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, Tensor]:
        """Return the means by name, and start anew."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts = state["sums"], state["counts"]


class Evaluation(nn.Module):
    """Accumulates a classifier's figures over a split, on the device, until `compute`.

    acc: share of correct predictions, in [0, 1].
    nll: mean negative log likelihood of the labels, in nats.
    ece: expected calibration error over 15 bins of equal width (Guo et al. 2017).
    agreement: share of samples on which student and teacher predict the same class; only where
        teacher logits were given.

    Args:
        num_classes: K.
        closely: with ece and the confusion matrix.

    Attributes:
        confusion: counts [K, K] by label and prediction, of what `compute` was last about.
    """

    confusion: Tensor | None = None

    def __init__(self, num_classes: int, closely: bool = False) -> None:
        super().__init__()
        self.acc = MulticlassAccuracy(num_classes, average="micro")
        self.nll = MeanMetric()
        self.ece = MulticlassCalibrationError(num_classes, n_bins=15) if closely else None
        self.counts = MulticlassConfusionMatrix(num_classes) if closely else None
        self.agreement = MulticlassAccuracy(num_classes, average="micro")

    def update(self, logits: Tensor, target: Tensor, teacher: Tensor | None = None) -> None:
        """Take in logits [B, K], labels [B] and, for the agreement, the teacher's logits [B, K]."""
        logits = logits.float()
        self.acc.update(logits, target)
        self.nll.update(F.cross_entropy(logits, target), weight=len(target))
        if self.ece is not None:
            self.ece.update(logits.softmax(1), target)
        if self.counts is not None:
            self.counts.update(logits, target)
        if teacher is not None:
            self.agreement.update(logits, teacher.argmax(1))

    def compute(self) -> dict[str, Tensor]:
        """Return the figures that were updated, and start anew."""
        metrics = {"acc": self.acc, "nll": self.nll, "ece": self.ece, "agreement": self.agreement}
        used = {k: m for k, m in metrics.items() if m is not None and m.update_called}
        figures = {name: metric.compute() for name, metric in used.items()}
        for metric in used.values():
            metric.reset()
        if self.counts is not None and self.counts.update_called:
            self.confusion = self.counts.compute()
            self.counts.reset()
        return figures


def confusion_matrix(logits: Tensor, targets: Tensor) -> Tensor:
    """Counts [K, K] by label and prediction of logits [N, K] for labels [N]."""
    return multiclass_confusion_matrix(logits, targets, logits.shape[1])


def class_accuracies(confusion: Tensor) -> list[float] | None:
    """The share of correct predictions class by class; None where a class has no images.

    Args:
        confusion: counts [K, K] by label and prediction.
    """
    images = confusion.sum(1)
    shares = confusion.diagonal() / images
    return None if (images == 0).any() else [round(share, 6) for share in shares.tolist()]
