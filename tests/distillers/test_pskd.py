"""PS-KD: the tables of past and present outputs."""

import pytest
import torch
from conftest import make_batch
from support import random_batch, self_distiller

from kd.distillers.pskd import PSKDDistiller
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pskd():
    return self_distiller(PSKDDistiller, {"hard": CrossEntropy(), "soft": SoftTargets(3.0)})


def batches_of(order, images):
    """Two batches of three, in some order of the nine training samples."""
    for index in order.split(3)[:2]:
        yield make_batch(index % 3)._replace(input=images[index], index=index)


def test_teacher_outputs_are_those_of_the_last_epoch_by_index():
    distiller, images = pskd(), torch.randn(9, 1, 8, 8)
    orders = [torch.randperm(9) for _ in range(3)]
    expected = torch.eye(3)[torch.arange(9) % 3]  # the label, until there is an output
    for epoch, order in enumerate(orders):
        distiller.start_epoch(epoch)
        current = expected.clone()
        for batch in batches_of(order, images):
            (pairing,) = distiller.pairings(batch, with_teacher=True).values()
            teacher = pairing.teacher.logits.softmax(1)
            torch.testing.assert_close(teacher, expected[batch.index], rtol=1e-6, atol=1e-7)
            assert not pairing.teacher.logits.requires_grad
            current[batch.index] = pairing.student.logits.detach().softmax(1)
            with torch.no_grad():  # the student changes, the stored outputs do not
                distiller.student.fc.weight.normal_()
        expected = current
    left_out = orders[0][6:]
    assert len(set(left_out.tolist()) & set(orders[1][:6].tolist())) > 0


def test_outputs_are_stored_while_no_term_reads_them():
    distiller, batch = pskd(), random_batch()
    (pairing,) = distiller.pairings(batch, with_teacher=False).values()
    assert pairing.teacher is None
    distiller.start_epoch(1)
    current = pairing.student.logits.softmax(1)
    torch.testing.assert_close(distiller.past[batch.index].softmax(1), current.detach())


def test_past_outputs_are_in_the_checkpoint():
    distiller, other = pskd(), pskd()
    distiller.start_epoch(4)
    distiller.pairings(random_batch(), with_teacher=True)
    checkpoint = {"state_dict": distiller.state_dict()}
    distiller.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    other.start_epoch(4)  # still the same epoch: the tables stay
    assert other.past.equal(distiller.past)
    other.start_epoch(5)
    assert other.past.equal(distiller.present)
