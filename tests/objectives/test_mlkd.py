"""Multi-level logit distillation (Jin et al. 2023), on one view, against loops in float64."""

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import gradient

from kd.objectives.kd import kd
from kd.objectives.mlkd import MultiLevel, mlkd
from kd.objectives.mlkd_levels import less_confident, levels
from kd.types import Outputs


def softmax(rows, temperature=1.0):
    powers = np.exp((rows - rows.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def reference(student, teacher, temperature, samples, classes, by_sample=1.0, by_class=1.0):
    """Terms of instances, samples and classes, entry by entry, for the samples and classes kept."""
    p_s, p_t = softmax(student, temperature), softmax(teacher, temperature)
    batch, number = p_s.shape
    total = 0.0
    for i in samples:
        for k in range(number):
            total += temperature**2 * p_t[i, k] * np.log(p_t[i, k] / p_s[i, k]) / batch
        for j in range(batch):
            gap = np.dot(p_t[i], p_t[j]) - np.dot(p_s[i], p_s[j])
            total += by_sample * gap**2 / batch
    for k in classes:
        for m in range(number):
            gap = np.dot(p_t[:, k], p_t[:, m]) - np.dot(p_s[:, k], p_s[:, m])
            total += by_class * gap**2 / number
    return total


class TestMultiLevel(Contract):
    def make(self):
        return MultiLevel()

    def reference(self, student, teacher, target, objective):
        every = range(6), range(5)
        return sum(reference(student.logits, teacher.logits, t, *every) for t in (2, 3, 4, 5, 6))


class TestMasked(Contract):
    def make(self):
        return MultiLevel([2.0, 5.0], sample_weight=0.5, class_weight=3.0, variant="masked")

    def reference(self, student, teacher, target, objective):
        probabilities = softmax(teacher.logits)
        samples = np.flatnonzero(probabilities.max(1) <= np.percentile(probabilities.max(1), 50))
        classes = np.flatnonzero(probabilities.sum(0) <= np.percentile(probabilities.sum(0), 50))
        assert len(samples) == 3
        assert len(classes) == 3
        pair = student.logits, teacher.logits
        return sum(reference(*pair, t, samples, classes, 0.5, 3.0) for t in (2, 5))


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(8, 6, generator=generator) for _ in range(2)]


def test_mask_keeps_the_less_confident_half():
    teacher = torch.tensor([[9.0, 0.0], [8.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    samples, classes = less_confident(teacher)
    assert samples.tolist() == [0, 0, 1, 1]
    assert classes.tolist() == [0, 1]


def test_instance_term_is_kd(logits):
    student, teacher = logits
    divergence, _, _ = levels(student, teacher, 4.0)
    torch.testing.assert_close(divergence.mean(), kd(student, teacher, 4.0))


def test_order_of_classes_does_not_matter(logits):
    student, teacher = logits
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    objective, target = MultiLevel(), torch.zeros(8).long()
    after = objective.compare(student[:, order], teacher[:, order], target)
    torch.testing.assert_close(after, objective.compare(student, teacher, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": []}, r"temperatures must name at least one, got \[\]"),
        ({"temperatures": [2.0, 0.0]}, "temperature must be a number > 0, got 0.0"),
        ({"sample_weight": -1.0}, "sample_weight must be ≥ 0, got -1.0"),
        ({"class_weight": -2.0}, "class_weight must be ≥ 0, got -2.0"),
        ({"variant": "code"}, "variant must be one of .*got 'code'"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        MultiLevel(**options)


def test_function_rejects_an_unknown_variant():
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'other'"):
        mlkd(torch.zeros(2, 3), torch.zeros(2, 3), variant="other")


def test_masks_of_standardised_logits_are_those_of_the_raw_ones():
    """A standardised row has no scale: the confidence of a scaled row would be lost."""
    scale = torch.tensor([8.0, 0.1, 4.0, 0.2])[:, None]
    teacher = scale * torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 1, 2], [0, 3, 0]])
    student = torch.zeros(4, 3, requires_grad=True)
    objective = MultiLevel([2.0], 0.0, 0.0, variant="masked", standardise=True)
    objective(Outputs(student, {}), Outputs(teacher, {}), make_batch(torch.arange(4))).backward()
    assert (gradient(student).abs().sum(1) > 0).tolist() == [False, True, False, True]
