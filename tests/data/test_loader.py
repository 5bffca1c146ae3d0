"""The loader: what comes when, exact normalisation, sharing among ranks, exact resume."""

import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from kd.data.arrays import Arrays
from kd.data.augment import Augmentation, CutMix, MixUp, RandAugment
from kd.data.datamodule import ImageDataModule
from kd.data.loader import EpochSampler, TensorLoader
from kd.data.views import CropFlip, Identity, ViewSpace
from kd.errors import UserError
from kd.types import Batch

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
POOL = 100


def pool(count: int = POOL) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 4


def make(
    batch_size: int = 16,
    rows: torch.Tensor | None = None,
    seed: int = 0,
    view: ViewSpace | None = None,
    augmentation: Augmentation | None = None,
    channels_last: bool = False,
    **settings: object,
) -> TensorLoader:
    images, targets = pool()
    rows = torch.arange(POOL) if rows is None else rows
    sampler = EpochSampler(rows, batch_size, seed=seed, **settings)  # type: ignore[arg-type]
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    view = view or CropFlip()
    return TensorLoader(
        images,
        targets,
        sampler,
        view_space=view,
        seed=seed,
        mean=mean,
        std=std,
        augmentation=augmentation,
        channels_last=channels_last,
    )


def epoch_of(loader: TensorLoader, epoch: int) -> Batch:
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert {batch.epoch for batch in batches} == {epoch}
    images, target, index, view = (
        torch.cat(parts) for parts in zip(*(batch[:4] for batch in batches), strict=True)
    )
    return Batch(images, target, index, view, epoch)


def by_index(batch: Batch) -> dict[int, bytes]:
    return {int(i): x.numpy().tobytes() for i, x in zip(batch.index, batch.input, strict=True)}


# What comes when


def test_an_epoch_is_a_permutation_without_the_incomplete_batch():
    loader = make()
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    assert all(len(batch.index) == 16 for batch in batches)
    index = torch.cat([batch.index for batch in batches])
    assert len(index.unique()) == 96
    assert index.tolist() != sorted(index.tolist())
    whole = make(drop_last=False)
    assert len(whole) == 7
    assert sorted(epoch_of(whole, 0).index.tolist()) == list(range(POOL))


def test_every_sample_comes_equally_often_over_epochs():
    loader = make(batch_size=30)
    index = torch.cat([epoch_of(loader, epoch).index for epoch in range(400)])
    counts = torch.bincount(index, minlength=POOL)
    assert int(counts.min()) > 400 * 0.9 - 5 * 6
    assert int(counts.max()) <= 400


def test_a_set_smaller_than_a_batch_gives_one_batch():
    loader = make(batch_size=256)
    assert [len(batch.index) for batch in loader] == [POOL]
    assert len(loader) == 1
    exact = make(batch_size=POOL)
    assert [len(batch.index) for batch in exact] == [POOL]


def test_evaluation_is_in_order_and_whole():
    rows = torch.arange(1, POOL, 3)
    loader = make(batch_size=8, rows=rows, shuffle=False, drop_last=False, view=Identity())
    assert torch.equal(epoch_of(loader, 0).index, rows)
    assert torch.equal(epoch_of(loader, 5).index, rows)


def test_order_depends_on_seed_and_epoch_and_nothing_else():
    torch.manual_seed(1)
    first = epoch_of(make(), 3).index
    torch.manual_seed(2)
    state = torch.get_rng_state()
    loader = make()
    epoch_of(loader, 9)
    assert torch.equal(first, epoch_of(loader, 3).index)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, epoch_of(loader, 4).index)
    assert not torch.equal(first, epoch_of(make(seed=1), 3).index)


def test_the_sampler_yields_the_batches_of_the_loader():
    loader = make()
    assert [i.tolist() for i in loader.sampler] == [batch.index.tolist() for batch in loader]


def test_index_is_the_position_in_the_pool():
    images, targets = pool()
    rows = torch.arange(1, POOL, 2)
    batch = epoch_of(make(rows=rows, drop_last=False, view=Identity()), 2)
    assert sorted(batch.index.tolist()) == rows.tolist()
    assert torch.equal(batch.target, targets[batch.index])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(batch.input, (images[batch.index] / 255 - mean) / std)


def test_ranks_share_each_global_batch_by_rows():
    whole = list(make(batch_size=24))
    shares = [list(make(batch_size=24, rank=rank, world_size=3)) for rank in range(3)]
    assert {len(share) for share in shares} == {len(whole)}
    for number, batch in enumerate(whole):
        for rank in range(3):
            share = shares[rank][number]
            assert all(
                torch.equal(a, b[rank::3]) for a, b in zip(share[:4], batch[:4], strict=True)
            )


# What it looks like


def test_the_same_image_has_the_same_view_whatever_the_batches():
    small, large = make(batch_size=7, drop_last=False), make(batch_size=50, drop_last=False)
    some = make(batch_size=9, rows=torch.arange(0, POOL, 5), drop_last=False)
    for epoch in range(3):
        a, b, c = (by_index(epoch_of(loader, epoch)) for loader in (small, large, some))
        assert a == b
        assert c.items() <= a.items()
    epochs = [by_index(epoch_of(small, epoch)) for epoch in range(3)]
    changed = [sum(epochs[0][i] != epochs[e][i] for i in range(POOL)) for e in (1, 2)]
    assert min(changed) > 0.95 * POOL  # 1 in 162 is drawn twice by chance
    other = by_index(epoch_of(make(batch_size=7, drop_last=False, seed=1), 0))
    assert sum(epochs[0][i] != other[i] for i in range(POOL)) > 0.95 * POOL


def test_views_can_be_recomputed_from_the_batch():
    loader = make()
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


@pytest.mark.parametrize("augmentation", [MixUp(0.5), CutMix(), RandAugment(group=3)], ids=repr)
def test_augmentations_are_functions_of_seed_epoch_and_batch(augmentation):
    augmentation.num_classes = 4
    loader, again = make(augmentation=augmentation), make(augmentation=augmentation)
    state = torch.get_rng_state()
    first = epoch_of(loader, 2)
    torch.rand(7)
    second = epoch_of(again, 2)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    assert not torch.equal(first.input, epoch_of(loader, 3).input[first.index.argsort()])
    torch.set_rng_state(state)
    plain = epoch_of(make(), 2)
    assert torch.equal(plain.index, first.index)
    assert not torch.equal(plain.input, first.input)
    if augmentation.mixes:
        assert first.target.shape == (96, 4)
        torch.testing.assert_close(first.target.sum(1), torch.ones(96))
    else:
        assert torch.equal(first.target, plain.target)


def test_mixup_is_the_blend_of_two_images():
    """Zhang et al. 2018: x = λ·a + (1 − λ)·b, y likewise; torchvision's b is the neighbour."""
    mixup = MixUp()
    mixup.num_classes = 4
    mixed, plain = (
        epoch_of(make(augmentation=mixup, batch_size=100), 0),
        epoch_of(make(batch_size=100), 0),
    )
    other = plain.input.roll(1, 0)
    apart = (plain.target != plain.target.roll(1, 0)).nonzero().squeeze(1)
    share = mixed.target[apart[0], plain.target[apart[0]]]
    assert 0 < share < 1
    torch.testing.assert_close(
        mixed.input, share * plain.input + (1 - share) * other, atol=1e-4, rtol=1e-4
    )


def test_channels_last_changes_the_layout_alone():
    usual, other = next(iter(make())), next(iter(make(channels_last=True)))
    assert torch.equal(usual.input, other.input)
    assert other.input.is_contiguous(memory_format=torch.channels_last)
    assert usual.input.is_contiguous()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MixUp(0.0), "alpha must be > 0, got 0.0"),
        (lambda: CutMix(-1), "alpha must be > 0, got -1"),
        (lambda: RandAugment(magnitude=31), r"magnitude must be in 0 … 30, got 31"),
        (lambda: RandAugment(group=0), "group must be in 1"),
    ],
)
def test_augmentations_check_their_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_batches_are_the_callers_own():
    loader = make(view=Identity())
    before = loader.images.clone()
    for batch in loader:
        batch.input.zero_()
        batch.target.zero_()
    assert torch.equal(loader.images, before)
    assert int(epoch_of(loader, 0).target.max()) == 3


# Resume, by hand


@pytest.mark.parametrize("done", [0, 1, 5, 6])
def test_a_loaded_state_goes_on_in_mid_epoch(done):
    loader = make()
    loader.sampler.set_epoch(2)
    batches = [batch.index.tolist() for batch in loader]
    loader = make()
    loader.sampler.set_epoch(2)
    for _, _ in zip(range(done), loader, strict=False):
        pass
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (2, done)
    fresh = make()
    fresh.load_state_dict(state)
    assert len(fresh) == 6  # Lightning counts the whole epoch
    assert fresh.state_dict() == state
    assert [batch.index.tolist() for batch in fresh] == batches[done:]
    assert [batch.index.tolist() for batch in fresh] == batches  # the next pass is whole again


def test_a_look_at_the_first_batch_does_not_use_the_state_up():
    loader = make()
    state = {**loader.state_dict(), "epoch": 1, "batch": 4}
    loader.load_state_dict(state)
    next(iter(loader))
    assert len(list(loader)) == 2


def test_another_epoch_forgets_the_state():
    loader = make()
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 6})
    loader.sampler.set_epoch(2)
    assert torch.equal(epoch_of(loader, 2).index, epoch_of(make(), 2).index)


@pytest.mark.parametrize("settings", [{"batch_size": 8}, {"seed": 3}, {"rows": torch.arange(50)}])
def test_a_state_of_other_data_settings_is_refused(settings):
    with pytest.raises(UserError, match="resume with the same data settings"):
        make(**settings).load_state_dict(make().state_dict())


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="batch_size must be ≥ 1, got 0"):
        EpochSampler(torch.arange(3), 0)
    with pytest.raises(ValueError, match=r"rank must be in range\(2\), got 2"):
        EpochSampler(torch.arange(3), 1, rank=2, world_size=2)


# Resume, by Lightning


class Data(ImageDataModule):
    """100 images for training (80) and validation (20): five batches."""

    def load(self) -> Arrays:
        images, targets = pool()
        return Arrays(images, targets, images[:8], targets[:8], list("abcd"))


class Net(lightning.LightningModule):
    """Notes what it is shown; dies before the optimizer step number `die`."""

    def __init__(self, die: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(192, 4)
        self.die = die
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        shown = (self.current_epoch, batch_idx, self.global_step)
        self.seen.append((*shown, batch.index.tolist(), batch.input.double().sum().item()))
        if self.global_step == self.die:
            raise KeyError("killed")
        return torch.nn.functional.cross_entropy(self.layer(batch.input.flatten(1)), batch.target)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert len(batch.index) == 20

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(Callback):
    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.step, self.path = step, path
        setattr(self, hook, self.save)

    def save(self, trainer: lightning.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(net: Net, *callbacks: Callback, checkpoint: Path | None = None, **settings: object) -> list:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {
        "max_epochs": 3,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **settings,
    }
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        callbacks=list(callbacks),
        **settings,  # type: ignore[arg-type]
    )
    data = Data(name="tiny", batch_size=16, val_fraction=0.2, view=CropFlip(padding=1))
    trainer.fit(net, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return net.seen


def test_lightning_shows_each_epoch_as_the_loader_does_by_hand():
    data = Data(name="tiny", batch_size=16, val_fraction=0.2, view=CropFlip(padding=1))
    data.setup()
    loader = data.train_dataloader()
    expected: list[tuple[Any, ...]] = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for number, batch in enumerate(loader):
            total = batch.input.double().sum().item()
            expected.append((epoch, number, len(expected), batch.index.tolist(), total))
    assert fit(Net()) == expected


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_end", 2),
        ("on_train_batch_end", 5),
        ("on_train_batch_end", 6),
        ("on_train_batch_end", 14),
        ("on_validation_end", 5),
        ("on_validation_end", 10),
        ("on_train_epoch_end", 5),
        ("on_train_epoch_end", 10),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"limit_val_batches": 0}, {"val_check_interval": 2}])
def test_a_resumed_fit_goes_on_exactly(tmp_path, hook, step, settings):
    path = tmp_path / "saved.ckpt"
    whole = fit(Net(), SaveAt(hook, step, path), **settings)
    if not path.exists():  # no validation at this step
        assert hook == "on_validation_end"
        return
    assert fit(Net(), checkpoint=path, **settings) == whole[step:]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("die", [1, 4, 5, 7, 14])
def test_an_interrupted_step_is_done_again(tmp_path, die):
    save = ModelCheckpoint(tmp_path, "saved", save_on_exception=True, every_n_epochs=99)
    whole = fit(Net())
    with pytest.raises(KeyError, match="killed"):
        fit(Net(die), save)
    (path,) = tmp_path.glob("*.ckpt")
    assert fit(Net(), checkpoint=path) == whole[die:]


def test_a_finished_fit_can_be_prolonged(tmp_path):
    path = tmp_path / "saved.ckpt"
    whole = fit(Net())
    fit(Net(), SaveAt("on_train_epoch_end", 10, path), max_epochs=2)
    assert fit(Net(), checkpoint=path) == whole[10:]


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_repeats_the_same_batches():
    seen = fit(Net(), overfit_batches=2)
    assert [s[3] for s in seen[:2]] == [s[3] for s in seen[2:4]] == [s[3] for s in seen[4:]]
