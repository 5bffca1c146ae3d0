"""The student as its own teacher: what each mode makes of a batch, by hand."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from torch import nn

from kd.data.digits import Digits
from kd.data.same_class import SameClass
from kd.distillers.byot import BYOTDistiller, Exit, exit_taps
from kd.distillers.cskd import CSKDDistiller
from kd.distillers.mean_teacher import Average, MeanTeacherDistiller
from kd.distillers.pskd import PSKDDistiller
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.objectives.ce import CrossEntropy
from kd.objectives.fitnet import Hint
from kd.objectives.kd import SoftTargets
from kd.schedules import Constant


class Net(nn.Module):
    """Two stages of maps and a head, on 8x8 images; noise is a dropout in front of the head."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(2, 5, 3, stride=4, padding=1), nn.ReLU())
        self.drop = nn.Dropout(noise)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.drop(self.stage2(self.stage1(x)).mean((2, 3))))


PLACES = {"stage1": "stage1", "stage2": "stage2", "embedding": "fc:in"}


def make(cls, weights=None, objectives=None, net=None, **options):
    objectives = objectives or {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    distiller = cls(
        student=net or Net(),
        tap_paths=PLACES,
        objectives=objectives,
        plan=Plan([Stage("", 1.0, weights or dict.fromkeys(objectives, 1.0))]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=Constant(),
        num_classes=3,
        **options,
    )
    distiller.build_adapters(torch.zeros(2, 1, 8, 8), torch.arange(9) % 3)
    return distiller


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    return make_batch(torch.randint(0, 3, (6,)))._replace(input=torch.randn(6, 1, 8, 8))


def training_logits(distiller, images):
    """What the student says in training mode, leaving batch norm alone."""
    with torch.no_grad():
        return distiller.student(images)


# PS-KD


def epoch_of(order, images):
    """Two batches of three, in some order of the pool's nine samples."""
    for index in order.split(3)[:2]:
        yield make_batch(index % 3)._replace(input=images[index], index=index)


def test_the_past_is_the_last_epochs_answer_by_index():
    distiller, images = make(PSKDDistiller), torch.randn(9, 1, 8, 8)
    orders = [torch.randperm(9) for _ in range(3)]
    expected = torch.eye(3)[torch.arange(9) % 3]  # the label, until there is an answer
    for epoch, order in enumerate(orders):
        distiller.turn_to(epoch)
        said = expected.clone()
        for batch in epoch_of(order, images):
            (pairing,) = distiller.pairings(batch, with_teacher=True).values()
            taught = pairing.teacher.logits.softmax(1)
            torch.testing.assert_close(taught, expected[batch.index], rtol=1e-6, atol=1e-7)
            assert not pairing.teacher.logits.requires_grad
            said[batch.index] = pairing.student.logits.detach().softmax(1)
            with torch.no_grad():  # the student goes on learning, and the answers stay
                distiller.student.fc.weight.normal_()
        expected = said
    left_out = orders[0][6:]
    assert len(set(left_out.tolist()) & set(orders[1][:6].tolist())) > 0


def test_answers_are_kept_while_nobody_is_taught(batch):
    distiller = make(PSKDDistiller)
    (pairing,) = distiller.pairings(batch, with_teacher=False).values()
    assert pairing.teacher is None
    distiller.turn_to(1)
    now = pairing.student.logits.softmax(1)
    torch.testing.assert_close(distiller.past[batch.index].softmax(1), now.detach())


def test_past_answers_are_in_the_checkpoint(batch):
    distiller, other = make(PSKDDistiller), make(PSKDDistiller)
    distiller.turn_to(4)
    distiller.pairings(batch, with_teacher=True)
    checkpoint = {"state_dict": distiller.state_dict()}
    distiller.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    other.turn_to(4)  # still the same epoch: nothing turns
    assert other.past.equal(distiller.past)
    other.turn_to(5)
    assert other.past.equal(distiller.present)


# CS-KD


def test_partners_are_other_training_samples_of_the_class():
    targets = torch.randint(0, 5, (400,))
    targets[:3] = torch.tensor([5, 6, 6])  # a class of one and a class of two
    rows = torch.randperm(400)[:300]
    rows = torch.cat([rows[rows > 2], torch.arange(3)])
    partners = SameClass(rows, targets)
    drawn = torch.stack([partners.draw(0, epoch, rows) for epoch in range(200)])
    assert (targets[drawn] == targets[rows]).all()
    assert torch.isin(drawn, rows).all()
    alone = rows == 0
    assert (drawn[:, alone] == 0).all()
    assert (drawn[:, ~alone] != rows[~alone]).all()
    assert (drawn[:, rows == 1] == 2).all()
    # each of the others as often: 200 draws among some 60, so that all but e^-3.3 of them come
    first = rows[0]
    others = set(rows[(targets[rows] == targets[first]) & (rows != first)].tolist())
    seen = torch.bincount(drawn[:, 0], minlength=400)
    assert len(seen.nonzero()) > 0.85 * len(others)
    assert seen.max() < 15


def test_partners_follow_from_seed_epoch_and_index_alone():
    targets = torch.randint(0, 3, (90,))
    rows = torch.arange(0, 90, 2)
    index = rows[torch.randperm(45)]
    drawn = SameClass(rows, targets).draw(7, 3, index)
    torch.manual_seed(1)
    shuffled = rows[torch.randperm(45)]
    assert SameClass(shuffled, targets).draw(7, 3, index).equal(drawn)
    assert SameClass(rows, targets).draw(7, 3, index[:5]).equal(drawn[:5])
    for seed, epoch in ((7, 4), (8, 3)):
        assert (SameClass(rows, targets).draw(seed, epoch, index) != drawn).float().mean() > 0.5


@pytest.fixture(scope="module")
def loader():
    data = Digits(name="digits", batch_size=8)
    data.prepare_data()
    data.setup()
    return data.train_dataloader()


def pairs(loader):
    distiller = make(CSKDDistiller)
    distiller._trainer = SimpleNamespace(train_dataloader=loader, global_step=0)
    batch = next(iter(loader))
    # Three classes of digits, for a net of three
    keep = batch.target < 3
    return distiller, batch.apply(lambda part: part[keep])


def test_the_teacher_is_the_nets_answer_to_the_partners(loader):
    distiller, batch = pairs(loader)
    (pairing,) = distiller.pairings(batch, with_teacher=True).values()
    partner = SameClass(loader.sampler.rows, loader.targets).draw(0, 0, batch.index)
    pixels = loader.images[partner].double().numpy() / 255
    shown = loader.images[loader.sampler.rows].double().numpy() / 255
    images = torch.tensor((pixels - shown.mean()) / shown.std(), dtype=torch.float32)
    theirs = training_logits(distiller, images)
    torch.testing.assert_close(pairing.teacher.logits, theirs, rtol=1e-3, atol=1e-3)
    assert (loader.targets[partner] == batch.target).all()
    torch.testing.assert_close(
        pairing.student.logits.detach(), training_logits(distiller, batch.input)
    )
    (pairing,) = distiller.pairings(batch, with_teacher=False).values()
    assert pairing.teacher is None


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_come_from_the_first_of_a_pair_alone(loader, precision):
    distiller, batch = pairs(loader)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        (pairing,) = distiller.pairings(batch, with_teacher=True).values()
        theirs = pairing.teacher.logits
        assert not theirs.requires_grad
        terms = distiller.objectives["soft"](pairing.student, pairing.teacher, batch)
        found = torch.autograd.grad(terms, list(distiller.student.parameters()))
        ours = distiller.student(batch.input)
        alone = SoftTargets(3.0).compare(ours.float(), theirs.float(), batch.target)
        expected = torch.autograd.grad(alone, list(distiller.student.parameters()))
    assert all(grad.abs().sum() > 0 for grad in (found[0], found[-1]))
    torch.testing.assert_close(found, expected)


# Mean teacher


def test_the_average_follows_the_recurrence():
    net = Net()
    average = Average(net, decay=0.7)
    weights = [net.fc.weight.detach().numpy().copy()]
    for step in (1, 2, 3, 4):
        with torch.no_grad():
            net.fc.weight.normal_()
            net.stage1[1].running_mean.normal_()
        weights.append(net.fc.weight.detach().numpy().copy())
        average.follow(net, step)
        if step == 2:  # the plain mean, initial weights included
            now = average.net.fc.weight.numpy()
            np.testing.assert_allclose(now, np.mean(weights, 0), rtol=1e-5)
    # 1/2, 2/3, then 0.7 where it would be 3/4 and 4/5
    expected = weights[0]
    for keep, now in zip((1 / 2, 2 / 3, 0.7, 0.7), weights[1:], strict=True):
        expected = keep * expected + (1 - keep) * now
    np.testing.assert_allclose(average.net.fc.weight.numpy(), expected, rtol=1e-5)
    assert average.net.stage1[1].running_mean.equal(net.stage1[1].running_mean)


def test_the_average_teaches_and_gets_no_gradient(batch):
    distiller = make(MeanTeacherDistiller, decay=0.5)
    with torch.no_grad():
        distiller.average.net.fc.bias.add_(torch.tensor([0.0, 3.0, 0.0]))
    distiller.train()
    assert not distiller.average.net.training
    (pairing,) = distiller.pairings(batch, with_teacher=True).values()
    torch.testing.assert_close(pairing.teacher.logits, distiller.average.net(batch.input))
    distiller.training_step(batch, 0)["loss"].backward()
    assert all(p.grad is not None for p in distiller.student.parameters())
    assert all(p.grad is None for p in distiller.average.parameters())
    distiller.total_steps = 1
    (group,) = distiller.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in distiller.student.parameters()}
    assert "average.net.fc.weight" in distiller.state_dict()


@pytest.mark.parametrize("noisy", [False, True])
def test_noise_of_the_teacher_is_a_choice(noisy):
    distiller = make(MeanTeacherDistiller, net=Net(noise=0.5), noisy=noisy)
    distiller.train()
    assert distiller.average.net.drop.training == noisy
    distiller.eval()
    assert not distiller.average.net.drop.training


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
        make(MeanTeacherDistiller, decay=decay)


# BYOT


def log_softmax(logits):
    logits = logits.astype(np.float64)
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))


def exits_of(distiller, images):
    """Logits of exit and student in NumPy, with the batch's own statistics."""
    with torch.no_grad():
        maps = distiller.student.stage1(images)
        early = distiller.exits["exit1"](maps).logits
    return early.numpy(), training_logits(distiller, images).numpy()


def test_the_loss_of_exits_by_hand(batch):
    """(1 − α)·CE + α·T²·KL at the exit, and CE in full at the deepest."""
    distiller = make(BYOTDistiller, {"hard": 0.7, "soft": 0.3})
    out = distiller.training_step(batch, 0)
    early, deep = exits_of(distiller, batch.input)
    rows, target = np.arange(6), batch.target.numpy()
    hard = [-log_softmax(z)[rows, target].mean() for z in (early, deep)]
    p, q = log_softmax(deep / 3), log_softmax(early / 3)
    soft = 9 * (np.exp(p) * (p - q)).sum(1).mean()
    assert out["loss"].item() == pytest.approx(0.7 * hard[0] + 0.3 * soft + hard[1], rel=1e-5)
    assert set(out["terms"]) == {"exit1/hard", "exit1/soft", "deepest/hard"}


def test_exits_teach_the_trunk_and_not_their_teacher(batch):
    distiller = make(BYOTDistiller, {"hard": 0.5, "soft": 0.5})
    pairings = distiller.pairings(batch, with_teacher=True)
    student, teacher = pairings["exit1"][:2]
    distiller.objectives["exit1/soft"](student, teacher, batch).backward()
    net = distiller.student
    assert net.stage1[0].weight.grad.abs().sum() > 0
    assert distiller.exits["exit1"].head.weight.grad.abs().sum() > 0
    assert net.fc.weight.grad is None
    assert net.stage2[0].weight.grad is None
    assert pairings["deepest"].teacher is None


def test_exits_match_the_deepest_embedding(batch):
    hint = Hint("embedding", "embedding")
    distiller = make(BYOTDistiller, objectives={"hard": CrossEntropy(), "hint": hint})
    early = distiller.pairings(batch, with_teacher=True)["exit1"]
    assert early.student.taps["embedding"].shape == early.teacher.taps["embedding"].shape == (6, 5)
    assert not early.teacher.taps["embedding"].requires_grad
    trained = {name for name, p in distiller.named_parameters() if p.requires_grad}
    assert any(name.startswith("exits.exit1.bottleneck") for name in trained)
    assert {"exit1/hint", "exit1/hard", "deepest/hard"} == distiller.terms.keys()


def test_building_leaves_no_mark_on_exits():
    distiller = make(BYOTDistiller)
    norm = distiller.exits["exit1"].bottleneck[1]
    assert norm.num_batches_tracked == 0
    assert distiller.exits.training


@pytest.mark.parametrize(("size", "deep"), [(32, 4), (8, 8), (14, 7), (9, 2)])
def test_an_exit_ends_in_the_deepest_shape(size, deep):
    maps, deepest = torch.randn(2, 4, size, size), torch.randn(2, 12, deep, deep)
    exit = Exit(maps, deepest, num_classes=7)
    inner = exit.bottleneck(maps)
    assert inner.shape[1] == 12
    assert inner.shape[2] <= deep < 2 * inner.shape[2] + 1
    outputs = exit(maps)
    assert outputs.logits.shape == (2, 7)
    torch.testing.assert_close(outputs.taps["embedding"], inner.mean((2, 3)))
    convolutions = [m for m in exit.bottleneck if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == max(1, math.ceil(math.log2(size / deep)))


def test_the_labels_count_in_full_for_the_deepest_whatever_alpha(batch):
    for alpha in (0.1, 0.9):
        distiller = make(BYOTDistiller, {"hard": 1 - alpha, "soft": alpha})
        distiller.training_step(batch, 0)
        weight, value = distiller.weighted["deepest/hard"]
        assert weight == pytest.approx(1.0)
        expected = F.cross_entropy(distiller.student(batch.input), batch.target)
        torch.testing.assert_close(value, expected)


def test_exits_are_the_stages_but_the_last():
    tap_paths = dict.fromkeys(["stem", "stage10", "stage2", "stage1", "embedding"], "x")
    assert exit_taps(tap_paths, None) == ["stage1", "stage2", "stage10"]
    assert exit_taps(tap_paths, ["stem"]) == ["stem", "stage10"]
    with pytest.raises(UserError, match="no tap 'stage3'; did you mean 'stage2'"):
        exit_taps(tap_paths, ["stage3"])
    with pytest.raises(UserError, match=r"taps are embedding, mode.distiller.exits=None"):
        exit_taps({"embedding": "fc:in"}, None)


def test_exits_on_vectors_are_refused():
    with pytest.raises(UserError, match=r"needs maps .*tap 'embedding' has \[2, 5\]"):
        make(BYOTDistiller, exits=["embedding"])


def test_a_deepest_exit_without_labels_is_refused():
    with pytest.raises(
        ValueError, match=r"learns from labels alone.*\(soft\).*alpha must be below"
    ):
        make(BYOTDistiller, objectives={"soft": SoftTargets(3.0)})
