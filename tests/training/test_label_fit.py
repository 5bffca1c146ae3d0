"""Warnings about exchanged labels of a test set."""

import re

import pytest
import torch

from kd.metrics import confusion_matrix
from kd.training.label_fit import best_order, exchanged, warn_of_labels

NAMES = ["ant", "bee", "cat", "dog"]
FITTING = torch.tensor([[40, 5, 5, 0], [3, 45, 1, 1], [10, 10, 20, 10], [0, 0, 3, 47]])


@pytest.mark.parametrize("rows", [[1, 0, 2, 3], [1, 2, 0, 3], [3, 0, 1, 2], [1, 0, 3, 2]])
def test_exchanged_folders_are_recognised(rows, caplog):
    sure = torch.tensor([[40, 5, 5, 0], [3, 45, 1, 1], [2, 2, 40, 6], [0, 0, 3, 47]])
    warn_of_labels(sure[rows], NAMES, val_acc=0.9)
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
    warn_of_labels(confusion, NAMES, val_acc=0.5)
    assert not caplog.messages


def test_an_accuracy_below_chance_is_said(caplog):
    spread = (torch.full((10, 10), 11) - 10 * torch.eye(10)).long()  # 1 % of 1000
    warn_of_labels(spread, [str(k) for k in range(10)], val_acc=0.93)
    (message,) = caplog.messages
    assert message.startswith("student: test accuracy 0.0100 is below chance (0.1000; validation")


def test_a_teacher_with_exchanged_classes_is_said(caplog):
    class Reader(torch.nn.Module):
        """Reads the class from the image, and calls 3 and 8 by each other's name."""

        def forward(self, images):
            number = images[:, 0, 0, 0].long().clamp(0, 9)
            names = torch.tensor([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])
            return 5 * torch.nn.functional.one_hot(names[number], 10).float()

    logits = Reader()(torch.arange(10).repeat(30).view(-1, 1, 1, 1))
    counts = confusion_matrix(logits, torch.arange(10).repeat(30))
    warn_of_labels(counts, [str(k) for k in range(10)], "teacher mine", teaches=True)
    assert "teacher mine: test images" in caplog.text
    assert "(3 → 8 → 3)" in caplog.text
    assert len(caplog.messages) == 1


def test_two_of_many_classes_of_a_foreign_teacher_are_said(caplog):
    """Two of twenty cost 0.1, and the line that mends it moves these two alone."""
    names, counts = [str(k) for k in range(20)], 50 * torch.eye(20, dtype=torch.int64)
    counts[5, 6] = 8  # some confusion elsewhere
    swapped = counts[[0, 2, 1, *range(3, 20)]]
    warn_of_labels(swapped, names, "teacher theirs", teaches=True, foreign=True)
    (message,) = caplog.messages
    assert "in another order ('1' is output 2, '2' is output 1)" in message
    assert message.endswith(str([0, 2, 1, *range(3, 20)]))


@pytest.mark.parametrize(("moved", "end"), [(2, ": row 0 ← 1, 1 ← 0"), (30, r" \(10 more\)")])
def test_of_many_classes_the_rows_that_move_are_said(moved, end, caplog):
    rows = [*range(1, moved), 0, *range(moved, 100)]
    counts = 50 * torch.eye(100, dtype=torch.int64)
    warn_of_labels(counts[rows], list(map(str, range(100))), "teacher", teaches=True, foreign=True)
    (message,) = caplog.messages
    assert re.search(f"weight and bias: row 0 ← 1, .*{end}$|weight and bias{end}$", message)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_guessing_teacher_is_said_once(foreign, caplog):
    always = torch.tensor([[50, 0, 0, 0]] * 4)
    warn_of_labels(always, NAMES, "teacher mine", teaches=True, foreign=foreign)
    (message,) = caplog.messages
    assert "no more than the most frequent class alone" in message


def test_best_order_inverts_a_permutation():
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(7, 7)
    counts[torch.arange(7), order] = 5
    assert best_order(counts) == order.tolist()
