"""Gradients of the parts of the loss, and the momenta that DOT and DeepKD keep of them."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_batch, make_outputs
from safetensors.torch import load_file
from support import (
    UNUSED,
    InterruptAt,
    configured,
    gradient,
    linear_net,
    make_distiller,
    random_batch,
    softmax,
)
from torch import nn

from kd.distillers.offline import OfflineDistiller
from kd.objectives.ce import CrossEntropy
from kd.objectives.dkd import Decoupled
from kd.objectives.kd import SoftTargets
from kd.optimizers.deepkd import DeepKD
from kd.optimizers.dot import DOT
from kd.teachers.frozen import FrozenTeacher
from kd.training.run import run

WEIGHTS = {"hard": 0.3, "soft": 0.7}
DECAY, RATE, T = 0.01, 0.05, 2.0
BATCHES = [random_batch()._replace(input=random_batch().input * scale) for scale in (1, -0.5, 2)]


def distiller_with(optimizer, soft, accumulate=1, weights=WEIGHTS, nets=None):
    """A linear student and its optimizer; `optimizer` is called with the parameters."""
    student, teacher = nets or (linear_net(1), linear_net(2))
    distiller = make_distiller(
        OfflineDistiller,
        {"hard": CrossEntropy(), "soft": soft},
        weights,
        student=student,
        tap_paths={},
        teacher=FrozenTeacher(teacher, {}, []),
    )
    distiller.optimizer_factory = optimizer
    trainer = SimpleNamespace(accumulate_grad_batches=accumulate, global_step=0)
    distiller._trainer = trainer
    return distiller, distiller.configure_optimizers()["optimizer"]


def trained(optimizer, soft, batches=BATCHES * 2, **options):
    """Weights [3, 64] and biases [3] of the student after a step for each batch."""
    distiller, made = distiller_with(optimizer, soft, **options)
    for batch in batches:
        made.zero_grad()
        distiller.backward(distiller.training_step(batch, 0)["loss"])
        made.step()
    return distiller.student[1].weight.detach(), distiller.student[1].bias.detach()


class Linear:
    """The linear nets of `distiller_with` in NumPy, with the gradients of the logits by hand."""

    def __init__(self) -> None:
        self.theta, self.fixed = (
            np.concatenate([weight.double(), bias.double()[:, None]], 1)
            for weight, bias in (list(linear_net(seed).state_dict().values()) for seed in (1, 2))
        )

    def gradients(self, batch, others_weight=None, kept=2):
        """Gradients [3, 65] of hard, label and others; the last two sum to soft targets."""
        x = np.c_[batch.input.flatten(1).double().numpy(), np.ones(len(batch.input))]
        z, t = x @ self.theta.T, x @ self.fixed.T
        hard, label, others = (np.zeros_like(z) for _ in range(3))
        for i, y in enumerate(batch.target.tolist()):
            p, q = softmax(z[i] / T), softmax(t[i] / T)
            rest = [k for k in range(3) if k != y]
            shown = sorted(rest, key=lambda k: -t[i, k])[:kept]
            hard[i] = softmax(z[i])
            hard[i, y] -= 1
            # d KL(b_t || b_s) / dz: the label's probability against those of the rest
            label[i, y] = T * (p[y] - q[y])
            for k in rest:
                label[i, k] = -T * (p[y] - q[y]) * p[k] / (1 - p[y])
            weight = 1 - q[y] if others_weight is None else others_weight
            ours, theirs = softmax(z[i, shown] / T), softmax(t[i, shown] / T)
            others[i, shown] = T * weight * (ours - theirs)
        return [g.T @ x / len(x) for g in (0.3 * hard, 0.7 * label, 0.7 * others)]

    def step(self, velocities, momenta, gradients, decayed):
        for n, (momentum, slope) in enumerate(zip(momenta, gradients, strict=True)):
            decay = DECAY * self.theta if n == decayed else 0
            velocities[n] = momentum * velocities[n] + slope + decay
        self.theta = self.theta - RATE * sum(velocities)


def assert_equals(weights, theta):
    weight, bias = weights
    np.testing.assert_allclose(weight.numpy(), theta[:, :-1], atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), theta[:, -1], atol=1e-6)


def test_dot_keeps_two_momenta():
    optimizer = partial(DOT, lr=RATE, momentum=0.6, delta=0.2, weight_decay=DECAY)
    net, velocities = Linear(), [0.0, 0.0]
    for batch in BATCHES * 2:
        hard, label, others = net.gradients(batch)
        net.step(velocities, (0.4, 0.8), (hard, label + others), decayed=0)
    assert_equals(trained(optimizer, SoftTargets(T)), net.theta)


@pytest.mark.parametrize("soft", [SoftTargets(T), Decoupled(T, 1.0, 4.0)], ids=["kd", "dkd"])
def test_deepkd_keeps_three_momenta(soft):
    deltas = {"task_delta": 0.1, "label_delta": -0.2, "others_delta": 0.3}
    settings: dict[str, Any] = {"lr": RATE, "momentum": 0.6, "weight_decay": DECAY, **deltas}
    optimizer = partial(DeepKD, first=1.0, middle=1.0, **settings)
    net, velocities = Linear(), [0.0, 0.0, 0.0]
    for batch in BATCHES * 2:
        gradients = net.gradients(batch, None if isinstance(soft, SoftTargets) else 4.0)
        net.step(velocities, (0.7, 0.4, 0.9), gradients, decayed=1)
    assert_equals(trained(optimizer, soft), net.theta)


SGD = partial(torch.optim.SGD, lr=RATE, momentum=0.9, weight_decay=DECAY)
ALIKE: dict[str, Any] = {"lr": RATE, "momentum": 0.9, "weight_decay": DECAY}
NO_DELTAS: dict[str, Any] = {"task_delta": 0.0, "label_delta": 0.0, "others_delta": 0.0}
EQUAL = [
    partial(DOT, delta=0.0, **ALIKE),
    partial(DeepKD, first=1.0, middle=1.0, **ALIKE, **NO_DELTAS),
]


@pytest.mark.parametrize("optimizer", EQUAL, ids=["dot", "deepkd"])
def test_equal_momenta_are_sgd(optimizer):
    soft = SoftTargets(T)
    for ours, theirs in zip(trained(optimizer, soft), trained(SGD, soft), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    batch = BATCHES[0]
    halves = [batch.apply(lambda tensor: tensor[:3]), batch.apply(lambda tensor: tensor[3:])]
    distiller, optimizer = distiller_with(EQUAL[0], SoftTargets(T), accumulate=2)
    for half in halves:
        distiller.backward(distiller.training_step(half, 0)["loss"])
    optimizer.step()
    expected, _ = trained(EQUAL[0], SoftTargets(T), [batch])
    torch.testing.assert_close(distiller.student[1].weight.detach(), expected)


def test_a_gradient_that_ends_leaves_its_momentum_to_decay():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = DOT([weight], lr=1.0, momentum=0.5, delta=0.25, weight_decay=0.0)
    for part in ("distillation", "task", "task"):
        optimizer.add(part, [weight], [torch.ones(1)])
        optimizer.step()
    # v_kd = 1, 0.75, 0.5625; v_task = 0, 1, 1.25
    assert weight.item() == pytest.approx(-(1 + 1.75 + 1.8125))


def test_a_parameter_of_one_part_has_the_ordinary_momentum():
    weight, frozen = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = DOT([weight, frozen], lr=1.0, momentum=0.5, delta=0.25, weight_decay=0.1)
    for _ in range(2):
        optimizer.add("distillation", [weight, frozen], [torch.ones(1), None])
        optimizer.step()
    assert weight.item() == pytest.approx(-1 - (0.5 + 1 - 0.1))
    assert frozen.item() == 0


def test_mask_leaves_the_other_classes_of_the_teachers_largest_logits():
    student = torch.randn(4, 7, requires_grad=True)
    teacher, target = torch.randn(4, 7), torch.tensor([0, 3, 6, 3])
    outputs = make_outputs(student), make_outputs(teacher)
    _, others = SoftTargets(T).class_terms(*outputs, make_batch(target), share=0.5)
    others.backward()
    ranks = teacher.scatter(1, target[:, None], -torch.inf).argsort(1, descending=True)
    assert gradient(student).ne(0).nonzero()[:, 1].view(4, 3).equal(ranks[:, :3].sort(1).values)
    whole = sum(SoftTargets(T).class_terms(*outputs, make_batch(target), share=1.0))
    torch.testing.assert_close(whole, SoftTargets(T)(*outputs, make_batch(target)))


def test_deepkds_mask_grows_with_the_progress_of_the_run():
    """The number of other classes with a gradient from the teacher, of 11."""
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(64, 12)) for _ in range(2))
    distiller, optimizer = distiller_with(
        partial(DeepKD, first=0.2, middle=0.6), SoftTargets(T), nets=(student, teacher)
    )
    found = []
    for progress in (0.0, 1 / 6, 1 / 2, 5 / 6, 1.0):
        optimizer.zero_grad()
        distiller.terms["soft"].progress = progress
        distiller.training_step(random_batch(1), 0)
        distiller.backward(UNUSED)
        found.append(int(optimizer._gradients[student[1].bias]["others"].ne(0).sum()))
    assert found == [2, 4, 7, 9, 11]  # 11 times 0.2, 0.4, 0.6, 0.8 and 1


def test_the_teachers_loss_falls_further_with_its_own_momentum():
    """The paper's effect: a larger momentum of the teacher's gradient lowers the teacher's loss."""
    end = {}
    for delta in (0.0, 0.05):
        optimizer = partial(DOT, lr=0.02, momentum=0.9, delta=delta, weight_decay=0.0)
        weight, bias = trained(optimizer, SoftTargets(T), BATCHES[:1] * 150)
        student, teacher = linear_net(1), linear_net(2)
        student[1].weight.data, student[1].bias.data = weight, bias
        answers = [make_outputs(net(BATCHES[0].input).detach()) for net in (student, teacher)]
        end[delta] = SoftTargets(T)(*answers, BATCHES[0]).item()
    assert end[0.05] < 0.7 * end[0.0]


@pytest.mark.parametrize(
    "options",
    [
        "optimizer=deepkd",
        pytest.param("optimizer=dot method=fitnet", marks=pytest.mark.slow),
        pytest.param("optimizer=dot mode=mean_teacher", marks=pytest.mark.slow),
    ],
)
def test_resuming_changes_nothing(options, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = *options.split(), "trainer.max_epochs=1"
    expected = run(configured(whole, output, *words, teacher=_teacher(options)), whole)
    cfg = configured(broken, output, *words, teacher=_teacher(options))
    with pytest.raises(SystemExit):
        run(cfg, broken, callbacks=[InterruptAt(5)])
    resumed = run(configured(broken, output, *words, teacher=_teacher(options)), broken)
    for key in ("val/acc", "test/acc", "test/nll", "config_hash"):
        assert resumed[key] == expected[key], key
    theirs = load_file(whole / "student.safetensors")
    for key, value in load_file(broken / "student.safetensors").items():
        assert value.equal(theirs[key]), key


def _teacher(options):
    return () if "mean_teacher" in options else ("teacher=resnet8",)
