"""Nets that learn together, against losses and steps computed by hand."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from support import built
from torch import nn

from kd.distillers.ensemble_logits import mean_logits, min_logit, min_loss
from kd.distillers.kdcl import KDCLDistiller
from kd.distillers.one import ONEDistiller
from kd.distillers.online import OnlineDistiller
from kd.distillers.pairing import Peer
from kd.distillers.stages import Plan, Stage
from kd.distillers.tail import tail_of
from kd.errors import UserError
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets
from kd.schedules import Constant

NETS = {"resnet8": {"width": 0.5}, "vgg8": {"width": 0.125}, "mobilenet_v2": {"width": 0.25}}
NETS |= {"mlp800": {"width": 0.05}, "lightnn": {}}


def linear_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def branched_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (6,), generator=generator)
    return make_batch(target)._replace(input=torch.randn(6, 1, 8, 8, generator=generator))


def make(kind, nets, tap_paths=(), weights=None, temperature=1.0, **options):
    tap_paths = dict(tap_paths)
    distiller = kind(
        peers=[Peer("linear", net, tap_paths) for net in nets[1:]],
        student=nets[0],
        tap_paths=tap_paths,
        objectives={"hard": CrossEntropy(), "soft": SoftTargets(temperature)},
        plan=Plan([Stage("", 1.0, weights or {"hard": 1.0, "soft": 1.0})]),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        scheduler=Constant(),
        num_classes=3,
        **options,
    )
    distiller.log = distiller.log_dict = lambda *args, **kwargs: None
    return distiller


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def divergence(p, q):
    return (p * (np.log(p) - np.log(q))).sum(1).mean()


def test_two_steps_of_mutual_learning_by_hand(batch):
    """CE + KL of two linear nets, and SGD with momentum on gradients written out, in NumPy."""
    nets = [linear_net(1), linear_net(2)]
    start = [(n[1].weight.detach().numpy().astype("f8"), n[1].bias.detach().numpy()) for n in nets]
    distiller = make(OnlineDistiller, nets)
    optimizer = distiller.configure_optimizers()["optimizer"]
    images, labels = batch.input.flatten(1).double().numpy(), np.eye(3)[batch.target.numpy()]
    parameters = [[w.copy(), b.astype("f8")] for w, b in start]
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
        np.testing.assert_allclose(net[1].weight.detach(), weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(net[1].bias.detach(), bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [OnlineDistiller, KDCLDistiller])
def test_no_net_is_moved_by_another_ones_loss(kind, batch):
    nets = [linear_net(1), linear_net(2)]
    distiller = make(kind, nets)
    distiller.training_step(batch, 0)
    for name, net in zip(("student", "peer1"), nets, strict=True):
        own = [v for term, (_, v) in distiller.weighted.items() if term.startswith(f"{name}/")]
        other = nets[1] if net is nets[0] else nets[0]
        assert len(own) == 2
        reached = torch.autograd.grad(sum(own), [*other.parameters()], allow_unused=True)
        assert reached == (None, None)
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(sum(own), [*net.parameters()]))


def test_three_nets_teach_each_other_by_halves(batch):
    nets = [linear_net(seed) for seed in (1, 2, 3)]
    distiller = make(OnlineDistiller, nets, weights={"hard": 0.3, "soft": 0.7}, temperature=2.0)
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


def test_where_nothing_reads_a_teacher_nobody_is_asked(batch):
    distiller = make(OnlineDistiller, [linear_net(1), linear_net(2)])
    distiller.plan = Plan([Stage("", 1.0, {"hard": 1.0})])
    assert set(distiller.training_step(batch, 0)["terms"]) == {"student/hard", "peer1/hard"}
    assert {pairing.teacher for pairing in distiller.pairings(batch, False).values()} == {None}


def test_ensembles_by_hand():
    logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], [[1.0, 2.0, -4.0], [0.0, 5.0, 4.5]]])
    target = torch.tensor([0, 1])
    mean = torch.tensor([[2.0, 1.5, -2.0], [0.0, 3.5, 2.75]])
    torch.testing.assert_close(mean_logits(logits, target), mean)
    # relative to the label: [0, -2, -3] and [0, 1, -5]; [-2, 0, -1] and [-5, 0, -0.5]
    least = torch.tensor([[0.0, -2.0, -5.0], [-5.0, 0.0, -1.0]])
    torch.testing.assert_close(min_logit(logits, target), least)
    # losses 0.17 and 1.32 for the first; 0.41 and 0.48 for the second sample
    torch.testing.assert_close(min_loss(logits, target), logits[0])
    torch.testing.assert_close(min_loss(logits, torch.tensor([1, 1])), logits[[1, 0], [0, 1]])
    pairing_weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])  # losses 0.91 and 0.73
    torch.testing.assert_close(min_loss(logits, pairing_weights), logits[[0, 1], [0, 1]])
    with pytest.raises(UserError, match="min_logit reads labels, and data/augment mixes them"):
        min_logit(logits, pairing_weights)


@pytest.mark.parametrize(
    ("name", "join"), [("mean", mean_logits), ("min_logit", min_logit), ("min_loss", min_loss)]
)
def test_collaborative_learning_is_under_the_ensemble(name, join, batch):
    nets = [linear_net(seed) for seed in (1, 2, 3)]
    distiller = make(KDCLDistiller, nets, temperature=2.0, ensemble=name)
    terms = distiller.training_step(batch, 0)["terms"]
    logits = torch.stack([net(batch.input).detach() for net in nets])
    teacher = softmax(join(logits, batch.target).numpy() / 2)
    for pairing, ours in zip(("student", "peer1", "peer2"), logits, strict=True):
        kl = 4 * divergence(teacher, softmax(ours.numpy() / 2))
        assert terms[f"{pairing}/soft"].item() == pytest.approx(kl, rel=1e-4)
        hard = F.cross_entropy(ours, batch.target).item()
        assert terms[f"{pairing}/hard"].item() == pytest.approx(hard, rel=1e-5)


def test_each_net_has_a_group_and_is_clipped_by_its_own_norm(batch):
    distiller = make(OnlineDistiller, [linear_net(1), linear_net(2)])
    optimizer = distiller.configure_optimizers()["optimizer"]
    assert [group["name"] for group in optimizer.param_groups] == ["student", "peer1"]
    for factor, net in zip(
        (1.0, 1000.0), (distiller.student, distiller.peers["peer1"]), strict=True
    ):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, factor)
    distiller.configure_gradient_clipping(optimizer, 0.5)
    for group in optimizer.param_groups:
        norm = sum(p.grad.square().sum() for p in group["params"]).sqrt()
        assert norm.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_a_replay_answers_as_the_whole_net(name):
    net, tap_paths = built(name, **NETS[name])
    images, others = torch.randn(3, 1, 8, 8), torch.randn(4, 1, 8, 8)
    features = {}
    for tap, place in tap_paths.items():
        module = net.get_submodule(place.removesuffix(":in"))
        if place.endswith(":in"):
            module.register_forward_pre_hook(
                lambda module, inputs, tap=tap: features.update({tap: inputs[0]})
            )
        else:
            module.register_forward_hook(
                lambda module, inputs, output, tap=tap: features.update({tap: output})
            )
    with torch.no_grad():
        expected = net(others)
    kept = dict(features)
    sizes = []
    for tap in tap_paths:
        rest = tail_of(net, tap_paths, tap, images).eval()
        with torch.no_grad():
            assert rest(kept[tap]).equal(expected), tap
        assert rest.net.state_dict().keys() < net.state_dict().keys()
        sizes.append(sum(p.numel() for p in rest.parameters()))
    assert sizes == sorted(sizes, reverse=True)  # the later the tap, the less comes after it


class Skipping(nn.Module):
    """A net whose last layer reads two of the taps."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first, self.second, self.last = nn.Linear(64, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, images):
        first = self.first(self.flatten(images))
        return self.last(first + self.second(first))


def test_a_tap_that_is_not_all_that_is_read_is_refused():
    tap_paths = {"one": "first", "two": "second", "three": "last:in", "four": "last"}
    net, images = Skipping(), torch.randn(2, 1, 8, 8)
    for tap in ("two", "four"):
        with pytest.raises(UserError, match=f"branch_at={tap}: .*that will do: one, three"):
            tail_of(net, tap_paths, tap, images)
    assert [name for name, _ in tail_of(net, tap_paths, "one", images).net.named_parameters()] == [
        *("second.weight", "second.bias", "last.weight", "last.bias")
    ]


def test_a_shortcut_around_a_tap_is_noticed():
    """A pre-activation block that keeps its width adds what lies before its first ReLU."""
    net, tap_paths = built("wrn_16_1")
    with pytest.raises(UserError, match="that will do: stage1, stage2, stage3, embedding"):
        tail_of(net, tap_paths, "stem", torch.randn(2, 1, 8, 8))


def branched(weights=None, temperature=3.0, branches=3):
    nets = [branched_net(seed) for seed in range(branches)]
    tap_paths = {"trunk": "2"}
    distiller = make(ONEDistiller, nets, tap_paths, weights, temperature, branch_at="trunk")
    distiller.build_adapters(torch.zeros(2, 1, 8, 8), torch.zeros(9, dtype=torch.int64))
    return distiller, nets


def test_the_native_ensemble_by_hand(batch):
    """One trunk, three branches, gate, and the sum of all terms, in NumPy."""
    distiller, nets = branched()
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
    labels, taught = np.eye(3)[batch.target.numpy()], softmax(ensemble / 3)
    expected = -(labels * np.log(softmax(ensemble))).sum(1).mean()
    for z in logits:
        expected -= (labels * np.log(softmax(z))).sum(1).mean()
        expected += 9 * divergence(taught, softmax(z / 3))
    assert out["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert set(out["terms"]) == {
        *("student/hard", "student/soft", "branch1/hard", "branch1/soft"),
        *("branch2/hard", "branch2/soft", "ensemble/hard"),
    }


def test_the_gate_weighs_to_one_and_learns_from_labels_alone(batch):
    distiller, _ = branched()
    weights = distiller.gate(torch.randn(7, 5))
    torch.testing.assert_close(weights.sum(1), torch.ones(7))
    assert weights.shape == (7, 3)
    distiller.training_step(batch, 0)
    gate = list(distiller.gate.parameters())
    for name, (_, term) in distiller.weighted.items():
        reached = torch.autograd.grad(term, gate, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in reached) == (name == "ensemble/hard"), name


def test_branches_share_the_trunk_and_nothing_else():
    distiller, nets = branched()
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


def test_branches_are_of_the_students_kind():
    distiller = make(
        ONEDistiller, [branched_net(0), linear_net(1)], {"trunk": "2"},
        branch_at="trunk",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"linear is another net; use mode.peers=\[student,student"):
        distiller.build_adapters(torch.zeros(2, 1, 8, 8), torch.zeros(9, dtype=torch.int64))
