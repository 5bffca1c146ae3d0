"""Shuffled teachers: which image each gets its outputs from, cached and live."""

import pytest
import torch
from support import linear_net

from kd.data.digits import Digits
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.shuffled import ShuffledTeacher, permutation


def test_no_image_keeps_its_own_outputs():
    rows = torch.arange(1, 200, 2)
    other = permutation(rows, seed=0)
    assert sorted(other[rows].tolist()) == rows.tolist()
    assert (other[rows] != rows).all()
    assert (other[::2][:100] == -1).all()
    assert not other.equal(permutation(rows, seed=1))
    assert other.equal(permutation(rows, seed=0))


def test_within_classes_labels_stay():
    targets = torch.arange(200) % 7
    rows = torch.arange(150)
    other = permutation(rows, 0, targets)
    assert (targets[other[rows]] == targets[rows]).all()
    assert (other[rows] != rows).all()
    assert permutation(torch.tensor([5]), 0, targets)[5] == 5  # alone in its class


@pytest.mark.parametrize("within", [True, False])
def test_outputs_are_those_of_the_other_image_in_its_view(within):
    data = Digits(name="digits", batch_size=50, mean=[0.3053], std=[0.3760])
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    net = linear_net(0)
    targets = data.train_targets if within else None
    teacher = ShuffledTeacher(FrozenTeacher(net, {}, []), 0, targets)
    loader.sampler.set_epoch(2)
    teacher.prepare(loader, loader.sampler.order(), lambda done, total: None)
    batch = next(iter(loader))
    other = permutation(loader.sampler.rows, 0, targets)[batch.index]
    own = {int(i): x for b in loader for i, x in zip(b.index, b.input, strict=True)}
    known = torch.tensor([int(i) in own for i in other])  # an incomplete last batch is left out
    assert known.float().mean() > 0.9
    expected = net(torch.stack([own[int(i)] for i in other[known]]))
    assert torch.allclose(teacher.outputs(batch).logits[known], expected, atol=1e-6)
