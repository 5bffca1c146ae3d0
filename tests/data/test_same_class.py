"""Partners of the same class: other training samples, drawn from (seed, epoch, index)."""

import pytest
import torch

from kd.data.same_class import SameClass


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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
    # Uniform over the others: 200 draws among some 60 miss a share of e^-3.3 of them.
    first = rows[0]
    others = set(rows[(targets[rows] == targets[first]) & (rows != first)].tolist())
    seen = torch.bincount(drawn[:, 0], minlength=400)
    assert len(seen.nonzero()) > 0.85 * len(others)
    assert seen.max() < 15


def test_partners_depend_on_seed_epoch_and_index_alone():
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
