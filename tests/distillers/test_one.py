"""The native ensemble of branches against NumPy."""

import numpy as np
import pytest
import torch
from support import divergence, linear_net, make_distiller, random_batch, softmax
from torch import nn

from kd.distillers.one import ONEDistiller
from kd.distillers.pairing import Peer
from kd.errors import UserError
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


def branched_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )


def one(nets):
    taps = {"trunk": "2"}
    peers = [Peer("linear", net, taps) for net in nets[1:]]
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    options = {"student": nets[0], "tap_paths": taps, "peers": peers, "branch_at": "trunk"}
    distiller = make_distiller(ONEDistiller, objectives, **options)
    distiller.build_adapters(torch.zeros(2, 1, 8, 8), torch.zeros(9, dtype=torch.int64))
    return distiller


@pytest.fixture
def nets():
    return [branched_net(seed) for seed in range(3)]


def test_native_ensemble_by_hand(nets):
    """One trunk, three branches, gate, and the sum of all terms."""
    distiller, batch = one(nets), random_batch()
    out = distiller.training_step(batch, 0)
    linear, norm = distiller.gate.layers[0], distiller.gate.layers[1]
    with torch.no_grad():
        trunk = nets[0][:3](batch.input)
        logits = [net[3:](trunk).double().numpy() for net in nets]
        scores = linear(trunk).double().numpy()
    scores = (scores - scores.mean(0)) / np.sqrt(scores.var(0) + norm.eps)
    gates = softmax(np.maximum(scores, 0))
    np.testing.assert_allclose(gates.sum(1), 1)
    ensemble = sum(gates[:, [n]] * z for n, z in enumerate(logits))
    labels, teacher = np.eye(3)[batch.target.numpy()], softmax(ensemble / 3)
    expected = -(labels * np.log(softmax(ensemble))).sum(1).mean()
    for z in logits:
        expected -= (labels * np.log(softmax(z))).sum(1).mean()
        expected += 9 * divergence(teacher, softmax(z / 3))
    assert out["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert set(out["terms"]) == {
        *("student/hard", "student/soft", "branch1/hard", "branch1/soft"),
        *("branch2/hard", "branch2/soft", "ensemble/hard"),
    }


def test_gate_weights_sum_to_one_and_are_trained_on_labels_alone(nets):
    distiller = one(nets)
    weights = distiller.gate(torch.randn(7, 5))
    torch.testing.assert_close(weights.sum(1), torch.ones(7))
    assert weights.shape == (7, 3)
    distiller.training_step(random_batch(), 0)
    gate = list(distiller.gate.parameters())
    for name, (_, term) in distiller.weighted.items():
        reached = torch.autograd.grad(term, gate, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in reached) == (name == "ensemble/hard"), name


def test_branches_share_only_the_trunk(nets):
    distiller = one(nets)
    names = [name for name, _ in distiller.named_parameters()]
    assert {n.split(".")[0] for n in names} == {"student", "branches", "gate"}
    assert [n for n in names if n.startswith("branches.branch1.")] == [
        *(f"branches.branch1.net.{layer}" for layer in ("3.weight", "3.bias")),
        *(f"branches.branch1.net.{layer}" for layer in ("5.weight", "5.bias")),
    ]
    saved = distiller.weights()
    assert list(saved) == ["student", "branch1", "branch2"]
    plain_net = branched_net(9)
    plain_net.load_state_dict(saved["branch1"])
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(plain_net(images), nets[1][3:](nets[0][:3](images)))
    torch.testing.assert_close(distiller.eval().predict_all(images)["branch1"], plain_net(images))
    assert distiller.parameter_count("branch1") == sum(p.numel() for p in plain_net.parameters())
    assert distiller.parameter_count("ensemble") == sum(p.numel() for p in distiller.parameters())


def test_branch_of_another_architecture_is_refused():
    with pytest.raises(UserError, match=r"linear is another net; use mode.peers=\[student,student"):
        one([branched_net(0), linear_net(1)])
