"""The loader: order, views, normalisation, sharing among ranks, and its state."""

import pytest
import torch
from small_loader import MEAN, POOL, STD, by_index, epoch_of, make_loader, pool

from kd.data.loader import EpochSampler
from kd.data.views import Identity
from kd.errors import UserError


def test_an_epoch_is_a_permutation_without_the_incomplete_batch():
    loader = make_loader()
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    assert all(len(batch.index) == 16 for batch in batches)
    index = torch.cat([batch.index for batch in batches])
    assert len(index.unique()) == 96
    assert index.tolist() != sorted(index.tolist())
    whole = make_loader(drop_last=False)
    assert len(whole) == 7
    assert sorted(epoch_of(whole, 0).index.tolist()) == list(range(POOL))


def test_every_sample_comes_equally_often_over_epochs():
    loader = make_loader(batch_size=30)
    index = torch.cat([epoch_of(loader, epoch).index for epoch in range(400)])
    counts = torch.bincount(index, minlength=POOL)
    assert int(counts.min()) > 400 * 0.9 - 5 * 6
    assert int(counts.max()) <= 400


def test_a_set_smaller_than_a_batch_gives_one_batch():
    loader = make_loader(batch_size=256)
    assert [len(batch.index) for batch in loader] == [POOL]
    assert len(loader) == 1
    exact = make_loader(batch_size=POOL)
    assert [len(batch.index) for batch in exact] == [POOL]


def test_evaluation_is_in_order_and_whole():
    rows = torch.arange(1, POOL, 3)
    loader = make_loader(batch_size=8, rows=rows, shuffle=False, drop_last=False, view=Identity())
    assert torch.equal(epoch_of(loader, 0).index, rows)
    assert torch.equal(epoch_of(loader, 5).index, rows)


def test_order_depends_on_seed_and_epoch_and_nothing_else():
    torch.manual_seed(1)
    first = epoch_of(make_loader(), 3).index
    torch.manual_seed(2)
    state = torch.get_rng_state()
    loader = make_loader()
    epoch_of(loader, 9)
    assert torch.equal(first, epoch_of(loader, 3).index)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, epoch_of(loader, 4).index)
    assert not torch.equal(first, epoch_of(make_loader(seed=1), 3).index)


def test_the_sampler_yields_the_batches_of_the_loader():
    loader = make_loader()
    assert [i.tolist() for i in loader.sampler] == [batch.index.tolist() for batch in loader]


def test_index_is_the_position_in_the_pool():
    images, targets = pool()
    rows = torch.arange(1, POOL, 2)
    batch = epoch_of(make_loader(rows=rows, drop_last=False, view=Identity()), 2)
    assert sorted(batch.index.tolist()) == rows.tolist()
    assert torch.equal(batch.target, targets[batch.index])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(batch.input, (images[batch.index] / 255 - mean) / std)


def test_ranks_share_each_global_batch_by_rows():
    whole = list(make_loader(batch_size=24))
    shares = [list(make_loader(batch_size=24, rank=rank, world_size=3)) for rank in range(3)]
    assert {len(share) for share in shares} == {len(whole)}
    for number, batch in enumerate(whole):
        for rank in range(3):
            share = shares[rank][number]
            assert all(
                torch.equal(a, b[rank::3]) for a, b in zip(share[:4], batch[:4], strict=True)
            )


def test_the_same_image_has_the_same_view_whatever_the_batches():
    small, large = (
        make_loader(batch_size=7, drop_last=False),
        make_loader(batch_size=50, drop_last=False),
    )
    some = make_loader(batch_size=9, rows=torch.arange(0, POOL, 5), drop_last=False)
    for epoch in range(3):
        a, b, c = (by_index(epoch_of(loader, epoch)) for loader in (small, large, some))
        assert a == b
        assert c.items() <= a.items()
    epochs = [by_index(epoch_of(small, epoch)) for epoch in range(3)]
    changed = [sum(epochs[0][i] != epochs[e][i] for i in range(POOL)) for e in (1, 2)]
    assert min(changed) > 0.95 * POOL  # 1 in 162 is drawn twice by chance
    other = by_index(epoch_of(make_loader(batch_size=7, drop_last=False, seed=1), 0))
    assert sum(epochs[0][i] != other[i] for i in range(POOL)) > 0.95 * POOL


def test_views_can_be_recomputed_from_the_batch():
    loader = make_loader()
    loader.sampler.set_epoch(4)
    images, _ = pool()
    for batch in loader:
        view = loader.view_space.draw(loader.seed, 4, batch.index)
        assert torch.equal(view, batch.view)
        assert batch.epoch == 4
        shown = loader.view_space.apply(images[batch.index], view)
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (MEAN, STD))
        expected = (shown.double() / 255 - mean) / std
        assert batch.input.dtype == torch.float32
        # One rounding of a float32 near 2 is 1.2e-7; three operations.
        assert float((batch.input.double() - expected).abs().max()) < 1e-6


def test_batches_are_the_callers_own():
    loader = make_loader(view=Identity())
    before = loader.inputs.clone()
    for batch in loader:
        batch.input.zero_()
        batch.target.zero_()
    assert torch.equal(loader.inputs, before)
    assert int(epoch_of(loader, 0).target.max()) == 3


@pytest.mark.parametrize("done", [0, 1, 5, 6])
def test_a_loaded_state_resumes_within_the_epoch(done):
    loader = make_loader()
    loader.sampler.set_epoch(2)
    batches = [batch.index.tolist() for batch in loader]
    loader = make_loader()
    loader.sampler.set_epoch(2)
    for _, _ in zip(range(done), loader, strict=False):
        pass
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (2, done)
    fresh = make_loader()
    fresh.load_state_dict(state)
    assert len(fresh) == 6  # Lightning counts the whole epoch
    assert fresh.state_dict() == state
    assert [batch.index.tolist() for batch in fresh] == batches[done:]
    assert [batch.index.tolist() for batch in fresh] == batches  # the next pass is whole again


def test_reading_the_first_batch_keeps_the_state():
    loader = make_loader()
    state = {**loader.state_dict(), "epoch": 1, "batch": 4}
    loader.load_state_dict(state)
    next(iter(loader))
    assert len(list(loader)) == 2


def test_another_epoch_resets_the_state():
    loader = make_loader()
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 6})
    loader.sampler.set_epoch(2)
    assert torch.equal(epoch_of(loader, 2).index, epoch_of(make_loader(), 2).index)


@pytest.mark.parametrize("settings", [{"batch_size": 8}, {"seed": 3}, {"rows": torch.arange(50)}])
def test_a_state_of_other_data_settings_is_refused(settings):
    with pytest.raises(UserError, match="resume with the same data settings"):
        make_loader(**settings).load_state_dict(make_loader().state_dict())


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="batch_size must be ≥ 1, got 0"):
        EpochSampler(torch.arange(3), 0)
    with pytest.raises(ValueError, match=r"rank must be in range\(2\), got 2"):
        EpochSampler(torch.arange(3), 1, rank=2, world_size=2)
