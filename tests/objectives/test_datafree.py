"""The loss of generated images: terms by hand, what they pull towards, and extreme values."""

import numpy as np
import pytest
import torch
from support import softmax
from torch import nn

from kd import losses
from kd.objectives.datafree import Statistics, batch_norms, inversion, recorded_statistics


def case(images=7, classes=4, scale=2.0):
    torch.manual_seed(0)
    student, teacher = (scale * torch.randn(images, classes) for _ in range(2))
    teacher[::2] += scale * nn.functional.one_hot(student[::2].argmax(1), classes) * 5
    layers = [Statistics(*(torch.rand(channels) for _ in range(4))) for channels in (3, 8)]
    return student, teacher, torch.arange(images) % classes, layers


def test_value_is_the_papers():
    student, teacher, target, layers = case()
    s, t = (softmax(logits.double().numpy()) for logits in (student, teacher))
    distance = 0.0
    for layer in layers:
        mean, var, stored_mean, stored_var = (v.double().numpy() for v in layer)
        distance += ((mean - stored_mean) ** 2).sum() ** 0.5 + (
            (var - stored_var) ** 2
        ).sum() ** 0.5
    cross_entropy = -np.mean([np.log(p[c]) for p, c in zip(t, target.tolist(), strict=True)])
    alike = [p.argmax() == q.argmax() for p, q in zip(s, t, strict=True)]
    assert 0 < sum(alike) < len(alike)
    divergences = (t * np.log(t / s)).sum(1)
    disagreement = np.where(alike, divergences, 0).mean()
    value = losses.datafree(student, teacher, target, layers, 0.5, 2.0, 3.0).item()
    assert value == pytest.approx(0.5 * distance + 2 * cross_entropy - 3 * disagreement, rel=1e-5)


def test_statistics_are_those_before_each_batch_norm():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5))
    net.extend([nn.BatchNorm1d(5), nn.BatchNorm1d(5, track_running_stats=False)])
    for norm in batch_norms(net.eval()):
        nn.init.uniform_(norm.get_buffer("running_mean"))
    images = torch.randn(6, 2, 6, 6)
    with recorded_statistics(net) as layers:
        net(images)
    for layer, given in zip(layers, (net[:1](images), net[:4](images)), strict=True):
        array = given.detach().double().numpy()
        axes = (0, *range(2, array.ndim))
        np.testing.assert_allclose(layer.mean.detach(), array.mean(axes), atol=1e-5)
        np.testing.assert_allclose(layer.var.detach(), array.var(axes), rtol=1e-4)
    assert layers[0].stored_mean is net[1].running_mean
    net(images)
    assert len(layers) == 2, "nothing is recorded after the block"


def test_statistics_are_best_where_they_are_the_stored_ones():
    student, teacher, target, _ = case()
    same = Statistics(torch.ones(3), torch.ones(3), torch.ones(3), torch.ones(3))
    assert inversion(student, teacher, target, [same]).statistics == 0
    moved = same._replace(mean=torch.tensor([1.0, 1.0, 3.0]))
    assert inversion(student, teacher, target, [same, moved]).statistics == 2


def test_disagreement_counts_where_both_predict_the_same_class():
    """So that its gradient ends where they differ, and does not grow without bound."""
    teacher = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    target, student = torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [9.0, 0.0]])
    student.requires_grad_()
    inversion(student, teacher, target, []).adversarial.backward()
    assert student.grad is not None
    assert student.grad[0].abs().sum() > 0
    assert student.grad[1].abs().sum() == 0


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("scale", [0.0, 50.0])
def test_finite_under_bfloat16(scale, images, classes):
    student, teacher, target, layers = case(images, classes, scale)
    teacher = teacher.bfloat16().requires_grad_()
    layers = [Statistics(*(scale * value for value in layer)) for layer in layers]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = losses.datafree(student.bfloat16(), teacher, target, layers)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert teacher.grad is not None
    assert teacher.grad.isfinite().all()
