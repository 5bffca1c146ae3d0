"""Accuracy of predictions: top-1, top-5, by class, and the confusion matrix."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from kd.deploy.evaluation.predictions import check_logits
from kd.metrics import class_accuracies, confusion_matrix

_TOP = 5


@dataclass(frozen=True)
class Quality:
    """How often a net is right.

    Attributes:
        images: N.
        top1: fraction of images whose label has the largest logit.
        top5: fraction of images whose label is among the five largest; None for K ≤ 5.
        per_class: `top1` by label; None for a class without images.
        confusion: counts [K, K] by label and prediction.
    """

    images: int
    top1: float
    top5: float | None
    per_class: list[float | None]
    confusion: Tensor

    def figures(self) -> dict[str, Any]:
        """Return the figures under the keys of `kd.deploy.evaluation.keys`."""
        return {
            "images": self.images,
            "acc": self.top1,
            "acc_top5": self.top5,
            "acc_per_class": self.per_class,
            "confusion": self.confusion.tolist(),
        }


def quality(logits: Tensor, targets: Tensor) -> Quality:
    """Return the accuracies of logits [N, K] for labels [N].

    Raises:
        UserError: logits that are not finite, or labels that are no class of the net.

    Example:
        >>> import torch
        >>> found = quality(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        >>> found.top1, found.top5, found.per_class
        (0.5, None, [1.0, 0.0])
    """
    check_logits(logits, targets)
    confusion, classes = confusion_matrix(logits, targets), logits.shape[1]
    top5 = None
    if classes > _TOP:
        top5 = multiclass_accuracy(logits, targets, classes, average="micro", top_k=_TOP).item()
    top1 = multiclass_accuracy(logits, targets, classes, average="micro").item()
    return Quality(len(targets), top1, top5, class_accuracies(confusion), confusion)
