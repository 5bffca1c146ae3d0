"""Selection of training samples: a part of each class, or all classes but some."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd.data.splits import stratified_split
from kd.errors import UserError, nearest


def check_selection(
    train_samples: int | None, leave_out: Sequence[str | int] | None, labels: bool = True
) -> None:
    """Refuse settings that cannot select training samples.

    Raises:
        ValueError: `train_samples` is no whole number ≥ 1, `leave_out` no list with a class, or
            classes are left out of samples without labels.
    """
    if train_samples is not None and (not isinstance(train_samples, int) or train_samples < 1):
        raise ValueError(f"train_samples must be ≥ 1 or null, got {train_samples!r}")
    if leave_out is not None and (isinstance(leave_out, str | int) or not leave_out):
        raise ValueError(f"leave_out must be a list of classes, as [3], or null, got {leave_out!r}")
    if leave_out is not None and not labels:
        raise ValueError(
            "leave_out chooses samples by their labels, which labels=false does not use; set one"
        )


def keep_samples(rows: Tensor, targets: Tensor, count: int, seed: int) -> Tensor:
    """Return about the given number of training samples, the same share of each class.

    Args:
        rows: positions in the training pool int64 [N].
        targets: labels of the pool int64.
        count: number of samples to keep. Each of K classes is rounded, and keeps one sample at
            least, so that the result can differ by K.
        seed: of the draw.

    Raises:
        UserError: there are fewer samples.

    Example:
        >>> keep_samples(torch.arange(6), torch.tensor([0, 0, 1, 1, 0, 1]), 2, seed=0).shape
        torch.Size([2])
    """
    if count > len(rows):
        raise UserError(f"data.train_samples={count}, but there are {len(rows)} training samples")
    kept, _ = stratified_split(targets.cpu()[rows], 1 - count / len(rows), seed)
    return rows[kept]


def leave_out_classes(
    rows: Tensor, targets: Tensor, names: Sequence[str], classes: Sequence[str | int]
) -> Tensor:
    """Return the training samples of all classes but the given ones.

    Args:
        rows: positions in the training pool int64 [N].
        targets: labels of the pool int64.
        names: of the K classes.
        classes: names, or labels from 0 to K − 1; what is both is a name.

    Raises:
        UserError: there is no such class, or no sample is left.

    Example:
        >>> targets = torch.tensor([0, 1, 0, 2])
        >>> leave_out_classes(torch.arange(4), targets, ["ant", "bee", "cat"], ["ant", 2])
        tensor([1])
    """
    labels = torch.tensor([_label(each, names) for each in classes], dtype=torch.int64)
    kept = rows[~torch.isin(targets.cpu()[rows], labels)]
    if not len(kept):
        raise UserError(f"data.leave_out={list(classes)} leaves no training sample")
    return kept


def _label(given: str | int, names: Sequence[str]) -> int:
    if str(given) in names:
        return list(names).index(str(given))
    if isinstance(given, int) and 0 <= given < len(names):
        return given
    raise UserError(f"data.leave_out: no class {given!r}; {nearest(given, names)}")
