"""Chains on small nets, within the test process."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

import kd.training.teacher
from kd.chains.run import run_chain
from kd.config.compose import CONF_DIR, register_models

TINY = [
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=none", "data.batch_size=256"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=2"),
    *("teacher.training.trainer.max_epochs=2", "teacher.training.trainer.limit_train_batches=2"),
]
SMALL = ["student.net.width=0.25", "teacher.net.width=0.25"]


def start_chain(output: Path, folder: Path, *overrides: str):
    """Run `kd.chain` in this process."""
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return run_chain([f"paths.output={output}", *TINY, *overrides], folder)


def configured(output: Path, folder: Path, *overrides: str):
    """The config of a single run on the same nets."""
    register_models(CONF_DIR)
    paths = [f"paths.output={output}", f"paths.run={folder}"]
    nets = ["teacher=resnet8", "student=resnet8", *SMALL]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *paths, *nets, *overrides])


def equal_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[k].equal(theirs[k]) for k in ours)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    """A run's trained weights, without the statistics of batch norm."""
    weights = load_file(folder / "student.safetensors")
    return {k: v for k, v in weights.items() if "running" not in k and "num_batches" not in k}


class RecordTeachers:
    """Record the source and the weights of every teacher that a run acquires."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, dict[str, torch.Tensor]]] = []
        self.acquire = kd.training.teacher.acquire_teacher
        patch.setattr(kd.training.teacher, "acquire_teacher", self)

    def __call__(self, *arguments):
        acquired = self.acquire(*arguments)
        (net,) = acquired.teacher.nets
        weights = {key: value.detach().clone() for key, value in net.state_dict().items()}
        self.seen.append((acquired.source, weights))
        return acquired
