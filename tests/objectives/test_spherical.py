"""Spherical KD (Guo et al. 2020) against NumPy float64."""

import numpy as np
import pytest
import torch
from contract import Contract

from kd.objectives.kd import kd
from kd.objectives.spherical import Spherical


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def projected(student, teacher):
    """Centred rows of both nets, at the average length of the teacher's."""
    centred = [np.stack([z - z.mean() for z in net.logits]) for net in (student, teacher)]
    radius = np.mean([np.sqrt(np.dot(z, z)) for z in centred[1]])
    return [np.stack([radius * z / np.linalg.norm(z) for z in rows]) for rows in centred]


class TestTowardTheTeacher(Contract):
    def make(self):
        return Spherical(3.0)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs in zip(*projected(student, teacher), strict=True):
            p_s, p_t = softmax(ours / 3), softmax(theirs / 3)
            total += sum(t * np.log(t / s) for s, t in zip(p_s, p_t, strict=True))
        return 9 * total / len(target)


class TestTowardTheLabels(Contract):
    at_teacher = None  # the value there is the teacher's own loss

    def make(self):
        return Spherical(toward="labels")

    def reference(self, student, teacher, target, objective):
        ours, _ = projected(student, teacher)
        return -np.mean([np.log(softmax(z)[y]) for z, y in zip(ours, target, strict=True)])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, 6, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(6, (8,), generator=generator)


@pytest.mark.parametrize("toward", ["teacher", "labels"])
def test_scale_and_shift_of_the_student_do_not_matter(logits, toward):
    student, teacher, target = logits
    scales, shifts = torch.linspace(0.2, 5, 8)[:, None], torch.linspace(-3, 3, 8)[:, None]
    objective = Spherical(toward=toward)
    before = objective.compare(student, teacher, target)
    after = objective.compare(scales * student + shifts, teacher, target)
    torch.testing.assert_close(after, before)
    assert (objective.compare(student, 2 * teacher, target) - before).abs() > 1e-3


def test_only_the_average_length_of_teacher_rows_matters(logits):
    """Rows of length 4, and rows of different lengths with the average 4."""
    student, teacher, target = logits
    unit = torch.nn.functional.normalize(teacher - teacher.mean(1, keepdim=True))
    lengths = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 4])[:, None]
    even, uneven = (Spherical().compare(student, x * unit, target) for x in (4.0, lengths))
    torch.testing.assert_close(even, uneven)


def test_equal_lengths_give_kd(logits):
    rows = [z - z.mean(1, keepdim=True) for z in logits[:2]]
    student, teacher = (5 * torch.nn.functional.normalize(z) for z in rows)
    loss = Spherical(4.0).compare(student, teacher, logits[2])
    torch.testing.assert_close(loss, kd(student, teacher, 4.0))


def test_gradient_is_orthogonal_to_the_students_logits(logits):
    student, teacher, target = logits
    student.requires_grad_()
    for toward in ("teacher", "labels"):
        loss = Spherical(toward=toward).compare(student, teacher, target)
        gradient = torch.autograd.grad(loss, student)[0]
        assert gradient.norm(dim=1).min() > 1e-3
        assert (gradient * student).sum(1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"toward": "label"}, "toward must be one of .*got 'label'"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Spherical(**options)
