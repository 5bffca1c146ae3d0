"""Fixtures of all tests: one thread, an output folder, and the command line."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from commands import Command
from hydra import initialize_config_dir
from image_files import count_decoded, image_folder_in
from support import idx

from kd.config.compose import CONF_DIR, register_models
from kd.types import Batch, Outputs

Train = Callable[..., subprocess.CompletedProcess[str]]

# Overrides for a run of seconds, which every test of the command line gives
TINY = ("trainer=cpu", "debug=fast", "trainer.enable_progress_bar=false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files that start commands first: a long one at the end would leave a worker idle."""
    slow = {item.path for item in items if "train" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 200 images, see `image_folder_in`."""
    return image_folder_in(tmp_path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images that each call of `data=image_folder` decoded."""
    return count_decoded(monkeypatch)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """One output folder a test file: its tests, and no others, share trained teachers."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def train(output) -> Train:
    """Run `python -m kd.train` in a process of its own, with the file's output folder.

    `command="kd.chain"` is another command of the same options; with `fresh` it may start
    processes of its own.
    """

    def call(
        *arguments: str,
        tiny: bool = True,
        timeout: int = 300,
        command: str = "kd.train",
        fresh: bool = False,
        **environment: str,
    ):
        flags = [argument for argument in arguments if argument.startswith("-")]
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        # Hydra accepts flags before or after the overrides, not between them.
        line = [*flags, f"paths.output={output}", *(TINY if tiny else ()), *overrides]
        return Command(command, *line, fresh=fresh, **environment).ended(timeout)

    return call


def make_outputs(logits: torch.Tensor, **taps: torch.Tensor) -> Outputs:
    return Outputs(logits, taps)


def make_batch(target: torch.Tensor, index: torch.Tensor | None = None) -> Batch:
    """A batch of black images with these labels [B]; `index` is 0 … B − 1 if not given."""
    index = torch.arange(len(target)) if index is None else index
    return Batch(torch.zeros(len(target), 1, 8, 8), target, index, torch.zeros_like(index), epoch=0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment, which a command that runs in the test's process changes."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Restore Ctrl-C, which Lightning disables for the rest of the process."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def mnist_root(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 60), ("t10k", 20)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
        targets = (torch.arange(count) % 10).to(torch.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(targets))
    return tmp_path


@pytest.fixture
def config_path():
    """Let Hydra's `compose` find conf/."""
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield
