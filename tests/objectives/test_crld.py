"""Zhang et al. 2024: soft targets within and across two views, against loops in float64."""

import numpy as np
import pytest
import torch
from conftest import make_batch, make_outputs
from contract import Contract
from support import composed, gradient, softmax

from kd.errors import UserError
from kd.objectives.crld import CrossView
from kd.objectives.kd import kd
from kd.validation.check import check_config


def kl(teacher, student, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


class TestCrossView(Contract):
    batch_order_matters = True
    at_teacher = None  # across views the two differ
    refuses_one_image = "even number of rows, got 1"

    def make(self):
        return CrossView(3.0, within=1.5, across=0.4, weak_threshold=0.8, strong_threshold=0.6)

    def reference(self, student, teacher, target, objective):
        total, half = 0.0, len(student.logits) // 2
        for i in range(half):
            (sw, ss), (tw, ts) = (z.logits[[i, i + half]] for z in (student, teacher))
            if softmax(tw).max() >= 0.8:
                total += 1.5 * (kl(tw, sw, 3.0) + kl(ts, ss, 3.0))
            if softmax(ts).max() >= 0.6:
                total += 0.4 * (kl(tw, ss, 3.0) + kl(ts, sw, 3.0))
        return total / half


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(8, 6, generator=generator) for _ in range(2)]


def test_equal_views_are_soft_targets(logits):
    student, teacher = (torch.cat([z, z]) for z in logits)
    objective = CrossView(4.0, 1.0, 1.0, weak_threshold=0.0, strong_threshold=0.0)
    found = objective.compare(student, teacher, torch.zeros(16).long())
    torch.testing.assert_close(found, 4 * kd(logits[0], logits[1], 4.0))


def test_images_of_an_unsure_teacher_have_no_gradient():
    """The paper's selection of soft labels; image 0 is sure in both views, 1 in one, 2 in none."""
    sure, unsure = torch.tensor([9.0, 0, 0]), torch.tensor([0.1, 0, 0])
    teacher = torch.stack([sure, sure, unsure, sure, unsure, unsure])
    student = torch.randn(6, 3, requires_grad=True)
    for weights, expected in (((1.0, 0.0), [0, 1, 3, 4]), ((0.0, 1.0), [0, 3])):
        student.grad = None
        objective = CrossView(4.0, *weights, weak_threshold=0.9, strong_threshold=0.9)
        outputs = make_outputs(student), make_outputs(teacher)
        objective(*outputs, make_batch(torch.zeros(6).long())).backward()
        assert gradient(student).abs().sum(1).nonzero().flatten().tolist() == expected


def test_parts_by_class_sum_to_the_term(logits):
    student, teacher = (torch.cat([z, z.flip(0)]) for z in logits)
    target = torch.arange(8).repeat(2) % 6
    objective = CrossView(4.0)
    parts = objective.compare_by_class(student, teacher, target, share=1.0)
    torch.testing.assert_close(sum(parts), objective.compare(student, teacher, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": -1.0}, "within must be ≥ 0, got -1.0"),
        ({"across": float("nan")}, "across must be ≥ 0, got nan"),
        ({"weak_threshold": 1.5}, r"weak_threshold must be in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be a number > 0"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        CrossView(**options)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=online"], "compares two views of each image, and mode=online gives it one"),
        (["teacher=ensemble"], "and teacher=ensemble sees one; use a single teacher"),
    ],
)
def test_modes_and_teachers_of_one_view_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        check_config(composed("method=crld", *overrides))
