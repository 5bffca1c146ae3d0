"""Labels and class names that are found in a user's data sets."""

from typing import Any

import pytest
import torch
from foreign import Pictures
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from kd.data.external_facts import class_names_of, labels_of, some_of
from kd.errors import UserError


class Unlisted(Dataset):
    """Labels are known from the samples only."""

    def __init__(self, labels):
        self.yielded = labels
        self.read = 0

    def __len__(self) -> int:
        return len(self.yielded)

    def __getitem__(self, index: int):
        self.read += 1
        return torch.zeros(1, 2, 2), self.yielded[index]


class Listed(Unlisted):
    """Has the attribute `targets` besides."""

    def __init__(self, labels, targets):
        super().__init__(labels)
        self.targets = targets


def test_listed_labels_are_not_read_from_samples():
    labels = [2, 0, 1, 1, 0] * 10
    data = Listed(labels, list(labels))
    assert labels_of(data, "x").tolist() == data.yielded
    assert data.read <= 4


def test_listed_labels_that_a_transform_changes_are_read_from_samples():
    data = Listed([2, 0, 1], [12, 10, 11])
    assert labels_of(data, "x").tolist() == [2, 0, 1]


@pytest.mark.parametrize("targets", [None, "labels", [1, 2], [[1], [2], [3]], [0.1, 0.2, 0.3]])
def test_other_attributes_of_that_name_are_ignored(targets):
    data = Listed([2, torch.tensor(0), 1], targets)
    assert labels_of(data, "x").tolist() == [2, 0, 1]


def test_labels_of_parts_and_wholes():
    tensors = TensorDataset(torch.zeros(3, 1, 8, 8), torch.tensor([5, 6, 7]))
    pictures = Pictures("val")
    whole: ConcatDataset[Any] = ConcatDataset([tensors, Subset(pictures, [4, 2])])
    assert labels_of(whole, "x").tolist() == [5, 6, 7, pictures.targets[4], pictures.targets[2]]


@pytest.mark.parametrize("labels", [["a"], [torch.tensor([1, 2])], [None]])
def test_targets_that_are_no_class(labels):
    with pytest.raises(UserError, match="must be"):
        labels_of(Unlisted(labels), "x")


def test_class_names():
    assert class_names_of(Subset(Pictures("val"), [1])) == [f"digit {n}" for n in range(10)]
    assert class_names_of(Unlisted([1])) is None


def test_some_are_spread_over_all():
    assert some_of(torch.arange(10, 110), 3).tolist() == [10, 59, 109]
    assert some_of(torch.arange(2), 3).tolist() == [0, 1]
