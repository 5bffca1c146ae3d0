"""Figures of a split, accumulated on the device: the interface, and those of a classifier."""

from abc import ABC, abstractmethod
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
    """Running means of named scalars, on their device until they are taken.

    Lightning's `self.log` costs 0.5 ms a call, and a step of a small net on a CPU 10 ms.

    Example:
        >>> import torch
        >>> means = Means()
        >>> means.add({"loss": torch.tensor(1.0)})
        >>> means.add({"loss": torch.tensor(2.0), "hint": torch.tensor(4.0)})
        >>> means.take()
        {'loss': tensor(1.5000), 'hint': tensor(4.)}
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the scalars of one step; the names may differ between steps."""
        for name, value in values.items():
            self.sums[name] = (
                # After a resume the sums are on the CPU.
                self.sums[name].to(value.device) + value if name in self.sums else value
            )
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, Tensor]:
        """Return the means by name, and reset."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return sums and counts, for checkpoints."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore sums and counts."""
        self.sums, self.counts = state["sums"], state["counts"]


class Figures(nn.Module, ABC):
    """Figures of a net over a split.

    Attributes:
        confusion: counts [K, K] by label and prediction, of the last `compute`; None: there are
            none.
    """

    confusion: Tensor | None = None

    @abstractmethod
    def update(self, answers: Any, target: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            answers: of the net, as `kd.tasks.base.Task.answers` returns them.
            target: of the batch.
            teacher: the teacher's logits [B, K]; None: unknown.
        """

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Return the figures by name, and reset; figures without a batch are left out."""


class Evaluation(Figures):
    """Figures of a classifier over a split.

    - `acc`: fraction of correct predictions, in [0, 1].
    - `nll`: mean negative log-likelihood of the labels, in nats.
    - `ece`: expected calibration error with 15 bins of equal width (Guo et al. 2017,
      https://arxiv.org/abs/1706.04599), in [0, 1].
    - `agreement`: fraction of samples for which student and teacher predict the same class; only if
      teacher logits were given.

    Args:
        num_classes: K.
        closely: compute `ece` and the confusion matrix as well.

    Example:
        >>> import torch
        >>> evaluation = Evaluation(num_classes=2)
        >>> evaluation.update(torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1]))
        >>> {name: round(value.item(), 3) for name, value in evaluation.compute().items()}
        {'acc': 0.5, 'nll': 1.588}
    """

    def __init__(self, num_classes: int, closely: bool = False) -> None:
        super().__init__()
        self.acc = MulticlassAccuracy(num_classes, average="micro")
        self.nll = MeanMetric()
        self.ece = MulticlassCalibrationError(num_classes, n_bins=15) if closely else None
        self.counts = MulticlassConfusionMatrix(num_classes) if closely else None
        self.agreement = MulticlassAccuracy(num_classes, average="micro")

    def update(self, answers: Tensor, target: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            answers: logits [B, K]. Figures are computed in float32.
            target: class indices [B].
            teacher: the teacher's logits [B, K], for the agreement.
        """
        logits = answers.float()
        self.acc.update(logits, target)
        self.nll.update(F.cross_entropy(logits, target), weight=len(target))
        if self.ece is not None:
            self.ece.update(logits.softmax(1), target)
        if self.counts is not None:
            self.counts.update(logits, target)
        if teacher is not None:
            self.agreement.update(logits, teacher.argmax(1))

    def compute(self) -> dict[str, Tensor]:
        """Return the figures by name, and reset; figures without a batch are left out."""
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
    """Return counts [K, K] by label and prediction of logits [N, K] and labels [N].

    Example:
        >>> import torch
        >>> confusion_matrix(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([0, 1]))
        tensor([[1, 0],
                [1, 0]])
    """
    return multiclass_confusion_matrix(logits, targets, logits.shape[1])


def class_accuracies(confusion: Tensor) -> list[float | None]:
    """Return the fraction of correct predictions for each class; None for one without images.

    Args:
        confusion: counts [K, K] by label and prediction.

    Example:
        >>> import torch
        >>> class_accuracies(torch.tensor([[3, 1], [0, 2]]))
        [0.75, 1.0]
        >>> class_accuracies(torch.tensor([[3, 1], [0, 0]]))
        [0.75, None]
    """
    fractions = confusion.diagonal() / confusion.sum(1)  # NaN for a class without images
    return [None if f != f else round(f, 6) for f in fractions.tolist()]
