"""Warnings about exchanged labels of a test set."""

import pytest
import torch

from kd.training.label_fit import exchanged, warn_of_labels

NAMES = ["ant", "bee", "cat", "dog"]
FITTING = torch.tensor([[40, 5, 5, 0], [3, 45, 1, 1], [10, 10, 20, 10], [0, 0, 3, 47]])


@pytest.mark.parametrize("rows", [[1, 0, 2, 3], [1, 2, 0, 3], [3, 0, 1, 2], [1, 0, 3, 2]])
def test_exchanged_folders_are_recognised(rows, caplog):
    sure = torch.tensor([[40, 5, 5, 0], [3, 45, 1, 1], [2, 2, 40, 6], [0, 0, 3, 47]])
    warn_of_labels(sure[rows], NAMES, 0.9)
    assert "may be exchanged" in caplog.text
    moved = {label for label, row in enumerate(rows) if label != row}
    assert {label for cycle in exchanged(sure[rows]) for label in cycle} == moved


@pytest.mark.parametrize(
    "confusion",
    [
        FITTING,
        torch.zeros(4, 4, dtype=torch.int64),
        torch.full((4, 4), 9),
        torch.tensor([[50, 0, 0, 0]] * 4),  # always the same answer
        torch.tensor([[0, 2], [2, 0]]),  # too few images to tell
    ],
)
def test_weak_students_are_not_suspected(confusion, caplog):
    warn_of_labels(confusion, NAMES, 0.5)
    assert not caplog.messages


def test_an_accuracy_below_chance_is_said(caplog):
    spread = (torch.full((10, 10), 11) - 10 * torch.eye(10)).long()  # 1 % of 1000
    warn_of_labels(spread, [str(k) for k in range(10)], 0.93)
    (message,) = caplog.messages
    assert "test accuracy 0.0100 is below chance (0.1000; validation accuracy 0.9300)" in message
