"""Labels, class names and identity of a user's map-style data set."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from kd.data.foreign_batch import describe
from kd.errors import UserError

log = logging.getLogger(__name__)
_SAMPLED = 64  # samples of a split that identify it
_CHECKED = 4  # listed labels that are compared with those that the samples have


def class_names_of(dataset: Any) -> list[str] | None:
    """The names that torchvision's data sets have as `classes`, also of a subset of one."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) and names else None


def labels_of(dataset: Any, name: str, workers: int = 0) -> Tensor:
    """The label of every sample of a map-style data set [N], int64.

    They are read from the data set's `targets` or `labels` if it has them and they agree with what
    it yields, else from the samples.

    Raises:
        UserError: a target is no class number.
    """
    listed = _listed(dataset)
    if listed is not None and _agrees(dataset, listed):
        return listed
    log.info("data %r: reading the labels of %d samples", name, len(dataset))
    loader = DataLoader(_Targets(dataset), batch_size=256, num_workers=workers, collate_fn=list)
    return torch.tensor([label for batch in loader for label in batch])


class _Targets(Dataset[int]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> int:
        return _label(self.dataset[index])


def _listed(dataset: Any) -> Tensor | None:
    """The labels that a data set lists beside its samples; None: it does not."""
    if isinstance(dataset, Subset):
        inner = _listed(dataset.dataset)
        return None if inner is None else inner[torch.as_tensor(list(dataset.indices))]
    if isinstance(dataset, ConcatDataset):
        parts = [part for part in map(_listed, dataset.datasets) if part is not None]
        return torch.cat(parts) if len(parts) == len(dataset.datasets) else None
    if isinstance(dataset, TensorDataset):
        found: Any = dataset.tensors[-1]
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        return None
    plain = labels.dim() == 1 and not labels.is_floating_point()
    return labels.long() if plain and len(labels) == len(dataset) else None


def _agrees(dataset: Any, labels: Tensor) -> bool:
    """Whether a few samples have these labels: a target_transform may change them."""
    some = some_of(torch.arange(len(labels)), _CHECKED).tolist()
    return all(_label(dataset[index]) == int(labels[index]) for index in some)


def _label(sample: Any) -> int:
    try:
        _, target = sample
        return int(target)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"a sample must be (input, class number), got {describe(sample)}") from None


def in_memory(dataset: Any) -> list[Tensor]:
    """The tensors and arrays that a map-style data set consists of, as far as they can be found.

    Those of a `TensorDataset`, and what torchvision's data sets have as `data`, `targets` and
    `labels`; also below a `Subset` or a `ConcatDataset`.

    Example:
        >>> whole = TensorDataset(torch.zeros(4, 1), torch.arange(4))
        >>> [list(part.shape) for part in in_memory(Subset(whole, [0, 2]))]
        [[4, 1], [4], [2]]
    """
    if isinstance(dataset, Subset):
        return [*in_memory(dataset.dataset), torch.as_tensor(list(dataset.indices))]
    if isinstance(dataset, ConcatDataset):
        return [tensor for part in dataset.datasets for tensor in in_memory(part)]
    found = [getattr(dataset, name, None) for name in ("data", "targets", "labels")]
    if isinstance(dataset, TensorDataset):
        found = [*dataset.tensors]
    tensors = (_as_tensor(each) for each in found if each is not None)
    return [tensor for tensor in tensors if tensor is not None]


def _as_tensor(value: Any) -> Tensor | None:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # a list of paths, say
        return None


def some_of(rows: Tensor, count: int = _SAMPLED) -> Tensor:
    """At most `count` of `rows` [N], evenly spaced from the first to the last."""
    return rows[torch.linspace(0, len(rows) - 1, count).long().unique()]


def check_classes(num_classes: int | None, class_names: Sequence[str] | None) -> list[str] | None:
    """Return the names as a list.

    Raises:
        ValueError: the number is none, or not that of the names.
    """
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ValueError(f"num_classes must be an integer ≥ 1, got {num_classes!r}")
    if class_names is None:
        return None
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"class_names must be a list of names, got {class_names!r}")
    if num_classes not in (None, len(class_names)):
        raise ValueError(f"num_classes={num_classes}, but there are {len(class_names)} class_names")
    return [*class_names]
