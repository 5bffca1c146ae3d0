"""CS-KD: outputs on the partners, and gradients of the student alone."""

from types import SimpleNamespace

import pytest
import torch
from support import linear_net, make_distiller, self_distiller, training_logits

from kd.data.digits import Digits
from kd.data.same_class import SameClass
from kd.distillers.cskd import CSKDDistiller
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def loader():
    data = Digits(name="digits", batch_size=64)
    data.prepare_data()
    data.setup()
    return data.train_dataloader()


def distiller_and_batch(loader):
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    distiller = self_distiller(CSKDDistiller, objectives)
    distiller._trainer = SimpleNamespace(train_dataloader=loader, global_step=0)
    batch = next(iter(loader))
    # Three classes of digits, for a net of three
    keep = batch.target < 3
    return distiller, batch.apply(lambda part: part[keep])


def test_teacher_outputs_are_the_students_on_the_partners(loader):
    distiller, batch = distiller_and_batch(loader)
    (pairing,) = distiller.pairings(batch, with_teacher=True).values()
    partner = SameClass(loader.sampler.rows, loader.targets).draw(0, 0, batch.index)
    pixels = loader.inputs[partner].double().numpy() / 255
    shown = loader.inputs[loader.sampler.rows].double().numpy() / 255
    images = torch.tensor((pixels - shown.mean()) / shown.std(), dtype=torch.float32)
    expected = training_logits(distiller, images)
    torch.testing.assert_close(pairing.teacher.logits, expected, rtol=1e-3, atol=1e-3)
    assert (loader.targets[partner] == batch.target).all()
    expected = training_logits(distiller, batch.input)
    torch.testing.assert_close(pairing.student.logits.detach(), expected)
    (pairing,) = distiller.pairings(batch, with_teacher=False).values()
    assert pairing.teacher is None


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_flow_through_the_student_outputs_alone(loader, precision):
    distiller, batch = distiller_and_batch(loader)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        (pairing,) = distiller.pairings(batch, with_teacher=True).values()
        theirs = pairing.teacher.logits
        assert not theirs.requires_grad
        term = distiller.objectives["soft"](pairing.student, pairing.teacher, batch)
        found = torch.autograd.grad(term, list(distiller.student.parameters()))
        ours = distiller.student(batch.input)
        alone = SoftTargets(3.0).compare(ours.float(), theirs.float(), batch.target)
        expected = torch.autograd.grad(alone, list(distiller.student.parameters()))
    assert all(grad.abs().sum() > 0 for grad in (found[0], found[-1]))
    torch.testing.assert_close(found, expected)


def spread(distiller, batch):
    """Mean distance of predictions within the classes of a batch, and between classes."""
    with torch.no_grad():
        rows = distiller.student(batch.input).softmax(1)
    distance = torch.cdist(rows, rows, p=1)
    same = batch.target[:, None] == batch.target
    other = ~torch.eye(len(rows), dtype=torch.bool)
    return distance[same & other].mean().item(), distance[~same].mean().item()


@pytest.mark.parametrize("labels", [False, True])
def test_predictions_of_a_class_move_together(loader, labels):
    """By the term alone, and beside labels, which keep the classes apart."""
    student = linear_net(0)
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    distiller = make_distiller(CSKDDistiller, objectives, student=student, tap_paths={})
    distiller._trainer = SimpleNamespace(train_dataloader=loader, global_step=0)
    batch = next(iter(loader))
    batch = batch.apply(lambda part: part[batch.target < 3])
    optimizer = torch.optim.SGD(student.parameters(), 0.05)
    before = spread(distiller, batch)
    for epoch in range(60):  # with other partners
        shown = batch._replace(epoch=epoch)
        (pairing,) = distiller.pairings(shown, with_teacher=True).values()
        loss = distiller.objectives["soft"](pairing.student, pairing.teacher, shown)
        if labels:
            loss = loss + distiller.objectives["hard"](pairing.student, pairing.teacher, shown)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = spread(distiller, batch)
    assert after[0] < 0.5 * before[0]
    assert after[0] / after[1] < 0.7 * before[0] / before[1], "classes come closer as well"
    assert not labels or after[1] > 2 * before[1]
