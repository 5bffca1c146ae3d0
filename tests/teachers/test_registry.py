"""Registry of teachers: each is trained once, and an entry is complete or absent."""

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kd.errors import UserError
from kd.teachers.registry import Registry

WEIGHTS = "student.safetensors"


def finish(folder: Path) -> None:
    folder.mkdir(parents=True)
    save_file({"fc.weight": torch.ones(2)}, folder / WEIGHTS)
    (folder / "result.json").write_text('{"status": "completed"}')


def test_concurrent_callers_train_a_teacher_once(tmp_path):
    registry, calls, found = Registry(tmp_path / "teachers"), [], []

    def train(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.2)
        finish(folder)

    def call() -> None:
        found.append(registry.get_or_train("net-digits-1", train))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert sorted(trained for _, trained in found) == [False, False, False, True]
    assert {folder for folder, _ in found} == {tmp_path / "teachers" / "net-digits-1"}


@pytest.mark.parametrize(
    ("error", "stays"), [(UserError("diverged"), 0), (RuntimeError("diverged, or the driver"), 1)]
)
def test_failed_training_leaves_no_entry(error, stays, tmp_path):
    """Only a UserError deletes the unfinished folder: other errors may not occur again."""
    registry = Registry(tmp_path)

    def fail(folder: Path) -> None:
        finish(folder)
        raise error

    with pytest.raises(type(error), match="diverged"):
        registry.get_or_train("net", fail)
    assert registry.find("net") is None
    left = [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert left == [".net.unfinished"] * stays


@pytest.mark.parametrize("damage", ["result.json", WEIGHTS])
def test_incomplete_entry_is_trained_again(damage, tmp_path):
    registry = Registry(tmp_path)
    registry.get_or_train("net", finish)
    (tmp_path / "net" / damage).unlink()
    assert registry.get_or_train("net", finish) == (tmp_path / "net", True)
    assert registry.get_or_train("net", finish) == (tmp_path / "net", False)
