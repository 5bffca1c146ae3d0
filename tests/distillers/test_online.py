"""Deep mutual learning against losses and optimizer steps computed by hand in NumPy."""

import numpy as np
import pytest
import torch
from support import divergence, linear_net, make_distiller, random_batch, softmax

from kd.distillers.online import OnlineDistiller
from kd.distillers.pairing import Peer
from kd.distillers.stages import Plan, Stage
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


@pytest.fixture
def batch():
    return random_batch()


def online(nets, weights=None, temperature=1.0):
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(temperature)}
    peers = [Peer("linear", net, {}) for net in nets[1:]]
    options = {"student": nets[0], "tap_paths": {}, "peers": peers}
    return make_distiller(OnlineDistiller, objectives, weights, momentum=0.9, **options)


def test_two_steps_of_mutual_learning_by_hand(batch):
    """CE + KL of two linear nets, and SGD with momentum on gradients written out."""
    nets = [linear_net(1), linear_net(2)]
    start = [[p.detach().numpy().astype("f8") for p in net.parameters()] for net in nets]
    distiller = online(nets)
    optimizer = distiller.configure_optimizers()["optimizer"]
    images, labels = batch.input.flatten(1).double().numpy(), np.eye(3)[batch.target.numpy()]
    parameters = [[w.copy(), b.copy()] for w, b in start]
    momenta = [[0.0, 0.0], [0.0, 0.0]]
    for _ in range(2):
        out = distiller.training_step(batch, 0)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        p = [softmax(images @ w.T + b) for w, b in parameters]
        for ours, name in enumerate(("student", "peer1")):
            theirs = 1 - ours
            hard = -(labels * np.log(p[ours])).sum(1).mean()
            assert out["terms"][f"{name}/hard"].item() == pytest.approx(hard, rel=1e-5)
            soft = divergence(p[theirs], p[ours])
            assert out["terms"][f"{name}/soft"].item() == pytest.approx(soft, rel=1e-4)
            slope = ((p[ours] - labels) + (p[ours] - p[theirs])) / len(labels)
            for n, gradient in enumerate((slope.T @ images, slope.sum(0))):
                momenta[ours][n] = 0.9 * momenta[ours][n] + gradient
                parameters[ours][n] = parameters[ours][n] - 0.1 * momenta[ours][n]
    for net, (weight, bias) in zip(nets, parameters, strict=True):
        np.testing.assert_allclose(
            net.get_parameter("1.weight").detach(), weight, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(net.get_parameter("1.bias").detach(), bias, rtol=1e-4, atol=1e-6)


def test_three_nets_are_distilled_from_two_peers_at_half_weight(batch):
    nets = [linear_net(seed) for seed in (1, 2, 3)]
    distiller = online(nets, weights={"hard": 0.3, "soft": 0.7}, temperature=2.0)
    pairings = distiller.pairings(batch, with_teacher=True)
    names = ("student", "peer1", "peer2")
    assert set(pairings) == {f"{a}_by_{b}" for a in names for b in names if a != b}
    assert {pairing.weight for pairing in pairings.values()} == {0.5}
    out = distiller.training_step(batch, 0)
    with torch.no_grad():
        logits = [net(batch.input).double().numpy() for net in nets]
    labels, expected = np.eye(3)[batch.target.numpy()], 0.0
    for ours in logits:
        expected += 0.3 * -(labels * np.log(softmax(ours))).sum(1).mean()
        for theirs in logits:
            kl = divergence(softmax(theirs / 2), softmax(ours / 2))
            expected += 0.7 * 4 * kl / 2
    assert out["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_pairings_have_no_teacher_if_no_term_reads_one(batch):
    distiller = online([linear_net(1), linear_net(2)])
    distiller.plan = Plan([Stage("", 1.0, {"hard": 1.0})])
    assert set(distiller.training_step(batch, 0)["terms"]) == {"student/hard", "peer1/hard"}
    pairings = distiller.pairings(batch, with_teacher=False)
    assert {pairing.teacher for pairing in pairings.values()} == {None}
