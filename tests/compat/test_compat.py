"""The dependencies' private interfaces: each test names what a new version has changed."""

import copy
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from kd import compat
from kd.callbacks.csv_logger import ResumableCSVLogger
from kd.config.compose import CONF_DIR, register_models


class changed:  # noqa: N801
    """Fail with the place to mend, instead of with the error inside it."""

    def __init__(self, dependency: str, function: str) -> None:
        self.message = f"{dependency} changed: see {function}"

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, AttributeError | TypeError | KeyError | AssertionError):
            pytest.fail(f"{self.message}: {type(error).__name__}: {error}")


def test_hydra_copies_one_store_only(monkeypatch):
    copies = []

    def count(store: ConfigStore, memo: dict) -> ConfigStore:
        copies.append(store)
        return store

    register_models(CONF_DIR)
    with changed("hydra", "kd.compat.share_config_store"):
        assert copy.deepcopy(ConfigStore.instance()) is ConfigStore.instance()
        monkeypatch.setattr(ConfigStore, "__deepcopy__", count)
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            compose("train")
        assert copies, "the store is not copied any more, so that the function can go"


def test_a_config_is_found_from_an_error_about_its_key():
    register_models(CONF_DIR)
    with (
        initialize_config_dir(str(CONF_DIR), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as found,
    ):
        compose("train", ["trainer.max_epoch=3"])
    with changed("omegaconf", "kd.compat.whole_config"):
        error: Any = found.value.__cause__
        assert (error.full_key, error.key) == ("trainer.max_epoch", "max_epoch")
        assert {"trainer", "method", "student"} <= set(compat.whole_config(error))


def test_a_copied_module_has_no_hooks():
    whole = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    calls = []
    whole[1].register_forward_hook(lambda *_: calls.append("after"))
    whole[1].register_forward_pre_hook(lambda *_: calls.append("before"))
    with changed("torch", "kd.compat.copy_without_hooks"):
        head = compat.copy_without_hooks(whole[1])
        images = torch.ones(1, 3)
        assert head(images).equal(whole[1](images))
        assert calls == ["before", "after"], "of the module itself, not of the copy"


QUIET: dict[str, Any] = {
    **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
    **{"enable_progress_bar": False, "enable_model_summary": False},
}


def test_operations_in_place_are_counted():
    values = torch.ones(3)
    with changed("torch", "kd.compat.tensor_version"):
        before = compat.tensor_version(values)
        values.relu()
        assert compat.tensor_version(values) == before
        values.relu_()  # also where it changes no value
        assert compat.tensor_version(values) == before + 1


class Tiny(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Stateful(DataLoader):
    """A loader whose state is the number of finished batches; keeps the states it is given."""

    trainer: Trainer

    def state_dict(self) -> dict:
        return {"batch": compat.finished_batches(self.trainer)}

    def load_state_dict(self, state: dict) -> None:
        self.loaded = state


class SaveAt(Callback):
    def __init__(self, path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(folder, resume=None) -> Stateful:
    rows: Any = torch.ones(5, 1)  # a tensor is a map-style data set
    loader = Stateful(rows, batch_size=1)
    loader.trainer = Trainer(
        max_epochs=1, callbacks=[SaveAt(folder / "state.ckpt", 3)], default_root_dir=folder, **QUIET
    )
    loader.trainer.fit(Tiny(), loader, ckpt_path=resume, weights_only=True)
    return loader


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_loaders_state_counts_finished_steps_and_comes_back(tmp_path):
    with changed("lightning", "kd.compat.finished_batches"):
        fit(tmp_path)
        assert fit(tmp_path, tmp_path / "state.ckpt").loaded == {"batch": 3}


class Epochs(SequentialSampler):
    """A sampler that records the epochs it is given."""

    def __init__(self, data) -> None:
        super().__init__(data)
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_sampler_is_given_every_epoch():
    """`kd.data.loader` draws order and views from the epoch; Lightning documents no such call."""
    images: Any = torch.ones(2, 1)  # a map-style data set
    sampler = Epochs(images)
    trainer = Trainer(max_epochs=3, **QUIET)
    with changed("lightning", "kd.data.loader.EpochSampler.set_epoch"):
        trainer.fit(Tiny(), DataLoader(images, sampler=sampler))
        assert sorted(set(sampler.epochs)) == [0, 1, 2]
        assert trainer.received_sigterm is False  # read by kd.training


def test_a_csv_logger_has_another_table(tmp_path):
    """`CSVLogger` reaches its table through the property `experiment`, which kd replaces."""
    logger = ResumableCSVLogger(save_dir=tmp_path, name="", version="csv")
    with changed("lightning", "kd.callbacks.csv_logger"):
        logger.log_hyperparams({"seed": 1})
        logger.log_metrics({"loss": torch.tensor(0.5)}, step=3)
        logger.finalize("success")
        rows = (tmp_path / "csv" / "metrics.csv").read_text().split()
        assert rows == ["loss,step", "0.5,3"]


class EarlyRow(Checkpoint):
    """Record the training figures when a checkpoint callback sees them."""

    row: tuple[dict[str, float], int]

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.row = compat.training_figures(trainer)


class Logs(Tiny):
    def training_step(self, batch, batch_index):
        loss = super().training_step(batch, batch_index)
        self.log("each", loss, on_step=True, on_epoch=False)
        self.log("mean", loss, on_step=False, on_epoch=True)
        return loss


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_epochs_are_logged_from_one_and_known_before_they_are_logged(tmp_path):
    logger = ResumableCSVLogger(save_dir=tmp_path, name="", version="csv")
    early = EarlyRow()
    options = QUIET | {"logger": logger, "log_every_n_steps": 1, "enable_checkpointing": True}
    trainer = Trainer(max_epochs=2, callbacks=[early], default_root_dir=tmp_path, **options)
    images: Any = torch.ones(2, 1)
    with changed("lightning", "kd.compat.count_epochs_from_one"):
        compat.count_epochs_from_one(trainer)
        trainer.fit(Logs(), DataLoader(images))
        rows = logger.experiment.metrics
        assert [row["epoch"] for row in rows if "each" in row] == [1, 1, 2, 2]
        assert [row["epoch"] for row in rows if "mean" in row] == [1, 2]
    with changed("lightning", "kd.compat.training_figures"):
        figures, step = early.row
        last = rows[-1]
        assert (figures, step) == ({"mean": last["mean"]}, last["step"])


def test_the_rank_of_a_single_process_is_zero(monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    with changed("lightning", "kd.compat.process_rank"):
        assert compat.process_rank() == 0
        monkeypatch.setattr(rank_zero_only, "rank", 3)
        assert compat.process_rank() == 3
