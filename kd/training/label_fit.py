"""Warnings about test labels that do not fit what a net has learnt."""

import logging
from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)
_ERRORS = 3  # standard errors below chance; a guessing net is there in one of 700 runs
# Smallest gain in accuracy that is reported as another order of the classes where no class is
# mostly predicted as another one: two of ten classes that are exchanged cost 0.2.
_GAIN = 0.1
_IMAGES_A_CLASS = 10  # with fewer test images, a relabelling fits by chance
_SHOWN = 20  # entries of an order in a message


def warn_of_labels(
    confusion: Tensor,
    class_names: Sequence[str],
    net: str = "student",
    *,
    val_acc: float | None = None,
    teaches: bool = False,
    foreign: bool = False,
) -> None:
    """Warn once, of the first of these: classes predicted as each other, a guessing net.

    Args:
        confusion: counts [K, K] by label and prediction, of the test set.
        class_names: names of the K classes.
        net: the net's role, for the message.
        val_acc: accuracy on images whose labels come from where the training labels do; None:
            unknown.
        teaches: the net is a teacher, which should be better than the most frequent class alone.
        foreign: the net was not trained here, so that its classes may have another order.
    """
    images = int(confusion.sum())
    if not images:
        return
    acc, chance = _accuracy(confusion, range(len(confusion))), 1 / len(confusion)
    cycles = list(exchanged(confusion))
    if foreign and (order := _another_order(confusion, cycles)):
        said = _said_of_order(confusion, order, class_names)
    elif cycles:
        said = _said_of_cycles(cycles, class_names)
    elif teaches and acc <= float(confusion.sum(1).max()) / images:
        said = (
            f"test accuracy {acc:.4f}, no more than the most frequent class alone: its weights, "
            "its preprocessing or the order of its classes do not fit these data"
        )
    elif acc < chance - _ERRORS * sqrt(chance * (1 - chance) / images):
        val = "" if val_acc is None else f"; validation accuracy {val_acc:.4f}"
        said = (
            f"test accuracy {acc:.4f} is below chance ({chance:.4f}{val}): the labels of the test "
            "set may be exchanged, or its classes be numbered otherwise"
        )
    else:
        return
    log.warning("%s: %s", net, said)


def _said_of_order(confusion: Tensor, order: Sequence[int], names: Sequence[str]) -> str:
    own, other = _accuracy(confusion, range(len(order))), _accuracy(confusion, order)
    return (
        f"test accuracy {own:.4f}, and {other:.4f} if its classes were in another order "
        f"({_moved(order, names)}); permute the rows of its classifier, weight and bias: "
        f"{_listed(order)}"
    )


def _said_of_cycles(cycles: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    named = "; ".join(" → ".join(str(names[k]) for k in [*c, c[0]]) for c in cycles[:5])
    return (
        "test images of a class are mostly predicted as another one, and that as the first "
        f"({named}): labels of the test set may be exchanged"
    )


def best_order(confusion: Tensor) -> list[int]:
    """Return the output of each class, with which the accuracy is largest.

    Args:
        confusion: counts [K, K] of images of class i, of which output j is the largest.

    Example:
        >>> best_order(torch.tensor([[0, 9], [8, 3]]))
        [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    _, outputs = linear_sum_assignment(np.asarray(confusion), maximize=True)
    return [int(output) for output in outputs]


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


def _another_order(confusion: Tensor, cycles: Sequence[Sequence[int]]) -> list[int] | None:
    """The order of the outputs that fits clearly better than their own; None: there is none."""
    classes = len(confusion)
    order, own = best_order(confusion), list(range(classes))
    gain = _accuracy(confusion, order) - _accuracy(confusion, own)
    if gain > _GAIN and int(confusion.sum()) >= _IMAGES_A_CLASS * classes:
        return order
    for cycle in cycles:
        for label, output in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            own[label] = output
    return own if cycles else None


def _accuracy(confusion: Tensor, order: Sequence[int]) -> float:
    right = confusion[torch.arange(len(confusion)), torch.as_tensor(order)].sum()
    return float(right) / float(confusion.sum())


def _moved(order: Sequence[int], names: Sequence[str]) -> str:
    moved = [(names[i], j) for i, j in enumerate(order) if i != j]
    listed = ", ".join(f"{name!r} is output {output}" for name, output in moved[:3])
    return listed + (f", … ({len(moved) - 3} more)" if len(moved) > 3 else "")


def _listed(order: Sequence[int]) -> str:
    """The order; of many classes, the first rows that move."""
    if len(order) <= _SHOWN:
        return str(list(order))
    moved = [f"{row} ← {output}" for row, output in enumerate(order) if row != output]
    rest = f", … ({len(moved) - _SHOWN} more)" if len(moved) > _SHOWN else ""
    return f"row {', '.join(moved[:_SHOWN])}{rest}"
