"""Huang et al. 2022."""

import numpy as np
import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.dist import PredictionRelations, pearson_distance


def softmax(rows, temperature):
    powers = np.exp((rows - rows.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


class TestPredictionRelations(Contract):
    def make(self):
        return PredictionRelations(3.0, beta=2.0, gamma=0.5)

    def reference(self, student, teacher, target, objective):
        ours, theirs = softmax(student.logits, 3.0), softmax(teacher.logits, 3.0)
        samples = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
        classes = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
        return 9 * (2.0 * np.mean(samples) + 0.5 * np.mean(classes))


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 6, generator=generator).softmax(1) for _ in range(2)]


def test_positive_affine_maps_of_the_rows_change_nothing(rows):
    student, teacher = rows
    scales, shifts = torch.linspace(0.2, 3, 8)[:, None], torch.linspace(-1, 1, 8)[:, None]
    before = pearson_distance(student, teacher)
    assert before > 0.1
    torch.testing.assert_close(pearson_distance(scales * student + shifts, teacher), before)
    torch.testing.assert_close(pearson_distance(student, scales * teacher + shifts), before)
    assert abs(pearson_distance(student.square(), teacher) - before) > 1e-3


def test_it_goes_from_zero_to_two(rows):
    student, _ = rows
    assert pearson_distance(student, student).item() == pytest.approx(0, abs=1e-6)
    assert pearson_distance(-student, student).item() == pytest.approx(2)


def test_a_student_without_preference_is_uncorrelated_and_stays_finite(rows):
    """A net whose last layer is 0 at first: the formula's gradient is infinite there."""
    logits = torch.zeros(8, 6, requires_grad=True)
    loss = PredictionRelations(1.0, 1.0, 1.0).compare(logits, rows[1], torch.zeros(8).long())
    loss.backward()
    assert loss.item() == pytest.approx(2)
    assert gradient(logits).abs().max() == 0


def test_a_class_that_the_teacher_rules_out_still_counts_by_its_ratios():
    """Probabilities of 1e-6 are small, not constant."""
    column = torch.tensor([[1e-6, 2e-6, 4e-6]])
    assert pearson_distance(column, 1e4 * column).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a number > 0, got 0.0"),
        ({"beta": -1.0}, "beta must be ≥ 0, got -1.0"),
        ({"gamma": -2.0}, "gamma must be ≥ 0, got -2.0"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PredictionRelations(**options)
