"""The loader under Lightning: epochs, and resuming within one."""

import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from small_loader import pool

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.views import CropFlip
from kd.types import Batch


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


def test_lightning_yields_the_epochs_of_a_loader_used_by_hand():
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
def test_a_resumed_fit_is_exact(tmp_path, hook, step, settings):
    path = tmp_path / "saved.ckpt"
    whole = fit(Net(), SaveAt(hook, step, path), **settings)
    if not path.exists():  # no validation at this step
        assert hook == "on_validation_end"
        return
    assert fit(Net(), checkpoint=path, **settings) == whole[step:]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("die", [1, 4, 5, 7, 14])
def test_an_interrupted_step_is_repeated(tmp_path, die):
    save = ModelCheckpoint(tmp_path, "saved", save_on_exception=True, every_n_epochs=99)
    whole = fit(Net())
    with pytest.raises(KeyError, match="killed"):
        fit(Net(die), save)
    (path,) = tmp_path.glob("*.ckpt")
    assert fit(Net(), checkpoint=path) == whole[die:]


def test_a_finished_fit_can_be_extended(tmp_path):
    path = tmp_path / "saved.ckpt"
    whole = fit(Net())
    fit(Net(), SaveAt("on_train_epoch_end", 10, path), max_epochs=2)
    assert fit(Net(), checkpoint=path) == whole[10:]


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_repeats_the_same_batches():
    seen = fit(Net(), overfit_batches=2)
    assert [s[3] for s in seen[:2]] == [s[3] for s in seen[2:4]] == [s[3] for s in seen[4:]]
