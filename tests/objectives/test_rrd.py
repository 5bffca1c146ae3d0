"""Giakoumoglou & Stathaki 2024, RRD: similarities to a memory of the teacher's embeddings."""

from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from contract import Contract
from support import softmax

from kd.errors import UserError
from kd.objectives.rrd import RelationalRepresentation, rrd
from kd.objectives.setting import Setting
from kd.types import Outputs


def embed(linear, rows):
    weight, bias = (p.detach().double().numpy() for p in linear.parameters())
    embedded = rows.reshape(len(rows), -1) @ weight.T + bias
    return embedded / np.sqrt((embedded**2).sum(1, keepdims=True))


class TestRelations(Contract):
    taps: ClassVar = {"embedding": (4,)}
    teacher_taps: ClassVar = {"embedding": (6,)}

    def make(self):
        return RelationalRepresentation(dim=3, student_temperature=0.2, teacher_temperature=0.5)

    def reference(self, student, teacher, target, objective):
        """In the first step the memory holds the batch alone."""
        s = embed(objective.student_embedding, student.taps["embedding"])
        t = embed(objective.teacher_embedding, teacher.taps["embedding"])
        p, q = softmax(t @ t.T / 0.5), softmax(s @ t.T / 0.2)
        return -(p * np.log(q)).sum(1).mean()


class TestMaps(TestRelations):
    taps: ClassVar = {"embedding": (2, 2, 2)}


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=1)


def run(objective, student, teacher, first=0):
    """A step of images with the indices `first`, `first` + 1, …"""
    outputs = [Outputs(torch.zeros(len(r), 2), {"embedding": r}) for r in (student, teacher)]
    index = first + torch.arange(len(student))
    return objective(*outputs, make_batch(torch.zeros_like(index), index))


def built(pool=7, width=4, **settings):
    torch.manual_seed(0)
    objective = RelationalRepresentation(**settings)
    outputs = Outputs(torch.zeros(2, 2), {"embedding": torch.randn(2, width)})
    objective.build(outputs, outputs, Setting(2, torch.zeros(pool, dtype=torch.long)))
    return objective


def test_a_cold_teacher_gives_infonce():
    torch.manual_seed(0)
    s, memory = unit(5, 8), unit(20, 8)
    value = rrd(s, memory[:5], memory, teacher_temperature=1e-4, student_temperature=0.3)
    scores = (s.double() @ memory.double().T / 0.3).numpy()
    expected = np.mean([-np.log(softmax(row)[i]) for i, row in enumerate(scores)])
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_the_minimum_is_the_teachers_entropy_at_its_own_similarities():
    torch.manual_seed(0)
    t, memory = unit(5, 8), unit(20, 8)
    s = t.clone().requires_grad_()
    value = rrd(s, t, memory, student_temperature=0.1)
    value.backward()
    p = softmax((t.double() @ memory.double().T / 0.1).numpy())
    assert value.item() == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-5)
    torch.testing.assert_close(s.grad, torch.zeros(5, 8), atol=1e-5, rtol=0)
    assert rrd(unit(5, 8), t, memory, student_temperature=0.1) > value


def test_rows_that_are_not_filled_do_not_count():
    torch.manual_seed(0)
    s, t, memory = unit(5, 8), unit(5, 8), unit(20, 8)
    padded, filled = torch.cat([memory, torch.zeros(9, 8)]), torch.arange(29) < 20
    torch.testing.assert_close(rrd(s, t, padded, filled), rrd(s, t, memory))
    assert not torch.isclose(rrd(s, t, padded), rrd(s, t, memory))
    cold = 1e-6
    torch.testing.assert_close(rrd(s, t, padded, filled, cold), rrd(s, t, memory, None, cold))


def test_the_memory_holds_the_latest_images_and_is_in_the_checkpoint():
    objective = built(pool=7)
    batches = [torch.randn(3, 4) for _ in range(3)]
    for number, rows in enumerate(batches):
        run(objective, rows, rows, first=3 * number)
    latest = F.normalize(objective.teacher_embedding(torch.cat(batches)[2:]), dim=1)
    assert sorted(objective.memory[:, 0].tolist()) == pytest.approx(sorted(latest[:, 0].tolist()))
    before = objective.memory.clone()
    objective.eval()
    value = run(objective, batches[0], batches[0])
    assert objective.memory.equal(before)
    other = built(pool=7).eval()
    other.load_state_dict(objective.state_dict())
    assert run(other, batches[0], batches[0]).equal(value)


def test_an_image_has_one_row():
    objective = built(pool=7)
    for _ in range(2):
        rows = torch.randn(3, 4)
        run(objective, rows, rows)
    latest = F.normalize(objective.teacher_embedding(rows), dim=1)
    torch.testing.assert_close(objective.memory[3:6], latest)
    assert not objective.memory[:3].any()


def test_a_batch_larger_than_the_memory_is_refused():
    with pytest.raises(UserError, match=r"keeps 2 images in its memory and got 3.*method\.memory"):
        run(built(memory=2), torch.randn(3, 4), torch.randn(3, 4))


def test_the_embedding_retrieves_the_teachers_of_unseen_images():
    """Features that are a noisy mixture of the teacher's, as those of a student are."""
    objective = built(pool=200, width=8, dim=16)
    teacher = torch.randn(300, 8)
    student = teacher @ torch.randn(8, 8) + 0.1 * torch.randn(300, 8)

    def retrieved():
        with torch.no_grad():
            s, t = (
                F.normalize(embedding(rows[200:]), dim=1)
                for embedding, rows in (
                    (objective.student_embedding, student),
                    (objective.teacher_embedding, teacher),
                )
            )
        return ((s @ t.T).argmax(1) == torch.arange(100)).float().mean().item()

    assert retrieved() < 0.1
    optimizer = torch.optim.Adam(objective.student_embedding.parameters(), 0.02)
    for step in range(150):
        index = torch.arange(40) + 40 * (step % 5)
        optimizer.zero_grad()
        run(objective, student[index], teacher[index], int(index[0])).backward()
        optimizer.step()
    assert retrieved() > 0.6, "chance is 1 / 100"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be ≥ 1, got 0"),
        ({"memory": 0}, "memory must be ≥ 1 or null, got 0"),
        ({"student_temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"teacher_temperature": -1.0}, r"temperature must be a number > 0, got -1\.0"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelationalRepresentation(**arguments)
