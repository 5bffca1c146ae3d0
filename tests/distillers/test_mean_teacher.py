"""Mean teacher: the moving average by hand, and its use as a teacher."""

import copy
import pickle

import numpy as np
import pytest
import torch
from support import TwoStages, random_batch, self_distiller

from kd.distillers.mean_teacher import MeanTeacherDistiller, WeightAverage
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def mean_teacher(**options):
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    return self_distiller(MeanTeacherDistiller, objectives, **options)


def test_average_follows_the_recurrence():
    net = TwoStages()
    average = WeightAverage(net, decay=0.7)
    weights = [net.fc.weight.detach().numpy().copy()]
    for step in (1, 2, 3, 4):
        with torch.no_grad():
            net.fc.weight.normal_()
            net.stage1.get_buffer("1.running_mean").normal_()
        weights.append(net.fc.weight.detach().numpy().copy())
        average.update_parameters(net)
        if step == 2:  # the plain mean, initial weights included
            now = average.module.get_parameter("fc.weight").numpy()
            np.testing.assert_allclose(now, np.mean(weights, 0), rtol=1e-5)
    # 1/2, 2/3, then 0.7 where it would be 3/4 and 4/5
    expected = weights[0]
    for keep, now in zip((1 / 2, 2 / 3, 0.7, 0.7), weights[1:], strict=True):
        expected = keep * expected + (1 - keep) * now
    np.testing.assert_allclose(
        average.module.get_parameter("fc.weight").numpy(), expected, rtol=1e-5
    )
    assert average.module.get_buffer("stage1.1.running_mean").equal(
        net.stage1.get_buffer("1.running_mean")
    )


def test_average_continues_from_a_state_dict():
    """The step is part of the state: decay grows with it."""
    net = TwoStages()
    average, resumed = WeightAverage(net, decay=0.999), WeightAverage(TwoStages(), decay=0.999)
    for step in range(4):
        if step == 2:
            resumed.load_state_dict(copy.deepcopy(average.state_dict()))
        with torch.no_grad():
            net.fc.weight.normal_()
        for each in (average, resumed) if step >= 2 else (average,):
            each.update_parameters(net)
    for key, value in average.state_dict().items():
        assert value.equal(resumed.state_dict()[key]), key


def test_average_can_be_pickled():
    average = WeightAverage(TwoStages(), decay=0.9)
    assert pickle.loads(pickle.dumps(average)).state_dict().keys() == average.state_dict().keys()


def test_average_is_the_teacher_and_gets_no_gradient():
    distiller, batch = mean_teacher(decay=0.5), random_batch()
    with torch.no_grad():
        distiller.average.module.fc.bias.add_(torch.tensor([0.0, 3.0, 0.0]))
    distiller.train()
    assert not distiller.average.module.training
    (pairing,) = distiller.pairings(batch, with_teacher=True).values()
    torch.testing.assert_close(pairing.teacher.logits, distiller.average(batch.input))
    distiller.training_step(batch, 0)["loss"].backward()
    assert all(p.grad is not None for p in distiller.student.parameters())
    assert all(p.grad is None for p in distiller.average.parameters())
    distiller.total_steps = 1
    (group,) = distiller.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in distiller.student.parameters()}
    assert "average.module.fc.weight" in distiller.state_dict()


@pytest.mark.parametrize("noisy", [False, True])
def test_noisy_teacher_runs_in_training_mode(noisy):
    distiller = mean_teacher(net=TwoStages(dropout=0.5), noisy=noisy)
    distiller.train()
    assert distiller.average.module.drop.training == noisy
    distiller.eval()
    assert not distiller.average.module.drop.training


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
        mean_teacher(decay=decay)


def test_average_lags_behind_the_weights_and_smooths_their_noise():
    torch.manual_seed(0)
    net = TwoStages()
    average = WeightAverage(net, decay=0.9)
    bias, follower = net.fc.bias, average.module.get_parameter("fc.bias")
    gaps, noise = [], []
    for step in range(200):
        with torch.no_grad():
            bias.copy_(0.1 * step + torch.tensor([0.0, 0.0, 1.0]) * torch.randn(3))
        before = follower.clone()
        average.update_parameters(net)
        assert ((follower - before) * (bias - before) >= 0).all(), "moves towards the weights"
        if step >= 50:
            gaps.append(0.1 * step - follower[0].item())
            noise.append(0.1 * step - follower[2].item())
    # A ramp of slope v is followed v · decay / (1 − decay) behind
    np.testing.assert_allclose(gaps, 0.1 * 0.9 / 0.1, atol=0.02)
    assert np.std(noise) < 0.4, "that of the weights is 1"


def test_consistency_pulls_the_student_to_the_average_and_not_the_average_to_it():
    distiller, batch = mean_teacher(decay=0.9), random_batch()
    initial = [p.clone() for p in distiller.average.parameters()]
    with torch.no_grad():
        distiller.student.fc.bias.add_(torch.tensor([2.0, 0.0, -2.0]))
    distiller.train()
    optimizer = torch.optim.SGD(distiller.parameters(), 0.05)
    distances = []
    for _ in range(100):
        (pairing,) = distiller.pairings(batch, with_teacher=True).values()
        ours, theirs = (n.logits.softmax(1) for n in (pairing.student, pairing.teacher))
        distances.append((ours - theirs).abs().mean().item())
        optimizer.zero_grad()
        distiller.objectives["soft"](pairing.student, pairing.teacher, batch).backward()
        optimizer.step()
    assert distances[-1] < 0.5 * distances[0]
    assert all(p.equal(q) for p, q in zip(distiller.average.parameters(), initial, strict=True))


def test_the_teacher_may_see_another_view():
    distiller, batch = mean_teacher(views=2), random_batch()
    distiller.eval()  # batch norm does not depend on the batch
    second = batch._replace(second=batch._replace(input=batch.input.flip(3)))
    found = distiller.pairings(second, with_teacher=True)[""].teacher.logits
    with torch.no_grad():
        torch.testing.assert_close(found, distiller.average(batch.input.flip(3)))
        assert not torch.allclose(found, distiller.average(batch.input))
    with pytest.raises(RuntimeError, match="one view of each image, and two are needed"):
        distiller.pairings(batch, with_teacher=True)
