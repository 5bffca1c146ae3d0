"""Two views of each image: strong views, loaders, and a teacher of both."""

from pathlib import Path

import pytest
import torch
from small_loader import make_loader
from support import InterruptAt, Losses, composed, configured
from torch import nn

from kd.config.experiment import experiment_settings
from kd.data.digits import Digits
from kd.data.strong import OPERATIONS, Chained, Strong, operation
from kd.data.views import CropFlip, Identity, Limited, Shift
from kd.errors import UserError
from kd.teachers.cached import CachedTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.output_cache import OutputCache
from kd.teachers.two_views import TwoViewTeacher
from kd.training.run import run


def images(count: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 5, 7)], ids=str)
def test_a_strong_view_does_not_depend_on_the_other_images(shape):
    space = Chained(Shift(), Strong(2, 20))
    view = torch.arange(64) * 109 % space.size
    shown = space.apply(images(64, *shape), view)
    assert shown.dtype == torch.uint8
    for i in (0, 17, 63):
        alone = space.apply(images(64, *shape)[i : i + 1], view[i : i + 1])
        assert alone[0].equal(shown[i]), i


def test_strong_views_are_the_operations_in_order():
    space, given = Strong(2, 15), images(1, 3, 9, 9)
    names = {name: 2 * number for number, name in enumerate(OPERATIONS)}
    first, then = names["translate_x"] + 1, names["solarize"]
    found = space.apply(given, torch.tensor([first + 28 * then]))
    shift = int(150 / 331 * 0.5 * 9)
    moved = torch.zeros_like(given)
    moved[..., :-shift] = given[..., shift:]  # the negative sign moves to the left
    expected = torch.where(moved >= 128, 255 - moved, moved)
    assert found.equal(expected)
    assert space.size == 28**2
    assert Strong(1, 0).apply(given, torch.tensor([names["rotate"]])).equal(given)
    assert operation(names["identity"], 0.5)(given).equal(given)


def test_more_views_than_can_be_numbered_are_refused():
    assert Chained(CropFlip(4), Strong(4)).size < 2**31 < CropFlip(28).size * Strong(4).size
    with pytest.raises(ValueError, match=r"6498 views with 614656 each are more than 2\*\*31"):
        Chained(CropFlip(28), Strong(4))


@pytest.mark.parametrize("options", [{"operations": 0}, {"magnitude": 31}])
def test_strong_settings_out_of_range(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be in"):
        Strong(**options)


@pytest.fixture(scope="module")
def data() -> Digits:
    data = Digits(name="digits", batch_size=64, mean=[0.3], std=[0.4], seed=3, view=Shift())
    data.prepare_data()
    data.setup()
    return data


def test_first_views_are_those_of_a_run_with_one(data):
    plain, two = data.train_dataloader(), data.variant(two_views="strong").train_dataloader()
    for one, both in zip(plain, two, strict=True):
        assert one.second is None
        assert all(a.equal(b) for a, b in zip(one[:4], both[:4], strict=True))
        assert both.second.index.equal(both.index)
        assert both.second.target.equal(both.target)


def test_second_views_are_drawn_apart_from_the_first(data):
    loader = data.variant(two_views="same").train_dataloader()
    loader.sampler.set_epoch(2)
    batches = list(loader)
    first, second = (
        torch.cat([each.view for each in part])
        for part in (batches, [batch.second for batch in batches])
    )
    assert 0.06 < (first == second).float().mean() < 0.17  # 1 in 9 by chance
    both = batches[0].both()
    assert both.second is None
    assert both.input[64:].equal(batches[0].second.input)
    shown = Shift().apply(data.arrays.train_inputs[both.index[64:]], both.view[64:])
    assert loader.normalise(shown).equal(both.input[64:])


def test_second_views_differ_from_the_first_and_are_the_same_after_a_resume(data):
    whole, resumed = (data.variant(two_views="strong").train_dataloader() for _ in range(2))
    whole.sampler.set_epoch(3)
    batches = list(whole)
    changed = [(batch.input != batch.second.input).flatten(1).any(1) for batch in batches]
    assert torch.cat(changed).float().mean() > 0.8  # of 9 shifts the second view has another 8
    resumed.sampler.load_state_dict(whole.sampler.state_dict() | {"batch": 4})
    for ours, theirs in zip(resumed, batches[4:], strict=True):
        assert ours.second.view.equal(theirs.second.view)
        assert ours.second.input.equal(theirs.second.input)


def test_a_limited_number_of_second_views(data):
    few = data.variant(two_views="strong", views=2)
    loader, seen = few.train_dataloader(), set()
    for epoch in range(4):
        index = torch.tensor([5])
        seen.add(int(loader.second.views(index, epoch)))
    assert len(seen) == 2


def test_a_limited_number_of_very_many_views():
    space, index = Limited(Chained(CropFlip(), Strong(4)), 3), torch.arange(50)
    shown = torch.stack([space.draw(0, epoch, index) for epoch in range(3)])
    assert all(len(views.unique()) == 3 for views in shown.T)
    assert shown.max() > 0.9 * space.size


def test_loaders_of_one_view_are_as_before():
    assert [batch.second for batch in make_loader(view=CropFlip())] == [None] * 6
    assert "data.second" not in experiment_settings(composed())


def test_cached_and_live_teachers_agree_on_both_views(data, tmp_path):
    torch.manual_seed(0)
    live = FrozenTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), {}, [])
    caches = [
        OutputCache(tmp_path / name, name, {"logits": (10,)}, torch.float32, {}) for name in "ab"
    ]
    cached = TwoViewTeacher(*(CachedTeacher(live, c, torch.float32, 500) for c in caches))
    loader = data.variant(two_views="strong").train_dataloader()
    loader.sampler.set_epoch(1)
    with torch.no_grad():
        cached.prepare(loader, loader.sampler.order(), lambda done, total: None)
    batch = next(iter(loader))
    assert cached.matches(batch, loader)
    assert not cached.matches(batch._replace(second=batch), loader)
    found = cached.outputs(batch).logits
    assert found.shape == (128, 10)
    torch.testing.assert_close(found, TwoViewTeacher(live, live).outputs(batch).logits)
    assert cached.output_source == "cached"
    with pytest.raises(RuntimeError, match="one view of each image"):
        cached.outputs(batch._replace(second=None))


CRLD = ("method=crld", "trainer.max_epochs=1")


def test_a_run_with_two_views_and_its_resumption(output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(configured(whole, output, *CRLD), whole, callbacks=[watch := Losses()])
    assert expected["teacher/outputs"] == "cached"
    assert len(watch.seen) == 10
    with pytest.raises(SystemExit):
        run(configured(broken, output, *CRLD), broken, callbacks=[InterruptAt(5)])
    resumed = run(configured(broken, output, *CRLD), broken)
    assert resumed["test/nll"] == expected["test/nll"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        *("method=mlkd_views optimizer=dot", "method=crld optimizer=deepkd"),
        *("mode=kdcl +mode.distiller.views=2", "mode=mean_teacher +mode.distiller.views=2"),
        *("method=crld data.views=2", "method=crld teacher.cache.mode=off"),
    ],
)
def test_runs_with_two_views(options, output, tmp_path):
    teacher = () if "mode=" in options else ("teacher=resnet8",)
    words = *options.split(), "trainer.max_epochs=1"
    result = run(configured(tmp_path, output, *words, teacher=teacher), tmp_path)
    assert result["status"] == "completed"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=crld", "data/augment=rand_augment"], "RandAugment changes the first view"),
        (
            [*CRLD, "teacher.cache.mode=on", "teacher.cache.max_gb=5e-5"],
            r"5\.\d+e-05 GB for 2 views of each image > teacher\.cache\.max_gb=5e-05",
        ),
        (
            ["method=crld", "+data/second=strong", "data.second.magnitude=99"],
            r"data\.second: magnitude must be in 0 … 30, got 99",
        ),
        (["+data/second=strong"], "data.second is set, and method=kd .* reads one view"),
    ],
)
def test_data_that_do_not_suit_are_refused(overrides, message, output, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        run(configured(tmp_path, output, *overrides), tmp_path)


def test_one_more_view_of_the_same_space_shares_its_cache(data):
    assert data.variant(two_views="same").second_space == data.view
    named = data.variant(two_views="strong", second=Identity())
    assert named.second_space == data.view
    assert data.variant(two_views="strong").second_space == Chained(data.view, Strong())
