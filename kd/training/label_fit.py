"""Warnings about test labels that do not fit what a net has learnt."""

import logging
from collections.abc import Iterator, Sequence
from math import sqrt

from torch import Tensor

log = logging.getLogger(__name__)
_ERRORS = 3  # standard errors below chance; a guessing net is there in one of 700 runs


def warn_of_labels(
    confusion: Tensor, class_names: Sequence[str], val_acc: float | None, net: str = "student"
) -> None:
    """Warn of a test accuracy below chance, and of classes that are predicted as each other.

    Args:
        confusion: counts [K, K] by label and prediction, of the test set.
        class_names: names of the K classes.
        val_acc: accuracy on images whose labels come from where the training labels do; None:
            unknown.
        net: the net's role, for the message.
    """
    cycles = list(exchanged(confusion))
    if cycles:
        named = "; ".join(" → ".join(str(class_names[k]) for k in [*c, c[0]]) for c in cycles[:5])
        log.warning(
            "%s: test images of a class are mostly predicted as another one, and that as the first "
            "(%s): labels of the test set may be exchanged",
            *(net, named),
        )
    images, chance = int(confusion.sum()), 1 / len(confusion)
    acc = float(confusion.diagonal().sum()) / max(images, 1)
    if images and acc < chance - _ERRORS * sqrt(chance * (1 - chance) / images):
        log.warning(
            "%s: test accuracy %.4f is below chance (%.4f%s): the labels of the test set may be "
            "exchanged, or its classes be numbered otherwise",
            *(net, acc, chance, "" if val_acc is None else f"; validation accuracy {val_acc:.4f}"),
        )


def exchanged(confusion: Tensor) -> Iterator[list[int]]:
    """Yield cycles of classes, each of which is mostly predicted as the next.

    Example:
        >>> import torch
        >>> list(exchanged(torch.tensor([[0, 90, 2], [80, 1, 0], [0, 3, 70]])))
        [[0, 1]]
    """
    most = _mostly_predicted(confusion)
    left = set(most)
    for start in most:
        cycle = [start]
        while (following := most.get(cycle[-1], cycle[-1])) not in cycle and following in left:
            cycle.append(following)
        if most.get(cycle[-1]) == start and len(cycle) > 1 and left >= set(cycle):
            left -= set(cycle)
            yield cycle


def _mostly_predicted(confusion: Tensor) -> dict[int, int]:
    """Another class by class, as which clearly more than half of its images are predicted."""
    found = {}
    for label, row in enumerate(confusion.tolist()):
        images, other = sum(row), max(range(len(row)), key=row.__getitem__)
        if images and other != label and row[other] / images > 0.5 + 1 / sqrt(images):
            found[label] = other
    return found
