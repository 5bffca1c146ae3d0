"""What a run records in its folder, by how far it came and how it ended."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException
from support import composed

from kd.config.identity import Identity
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.tasks import TASKS
from kd.training.status import RunStatus

NAMES = {"method": "kd", "teacher": "resnet20", "student": "resnet8", "data": "digits"}


def recorded(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_a_completed_run_records_its_figures(tmp_path):
    with RunStatus(composed(), tmp_path, None) as status:
        status.accept(TASKS["image_classification"])
        status.begin(Identity({}), None, None)
        status.complete({"test/acc": 0.5}, tested=True)
    found = recorded(tmp_path)
    assert found["status"] == "completed"
    assert found["test/acc"] == 0.5
    assert found.items() >= NAMES.items()
    assert {"seed", "config_hash", "git_commit", "threads", "versions"} <= found.keys()
    assert "error" not in found
    assert RunFolder(tmp_path).config.is_file()


def test_a_run_without_a_test_is_untested(tmp_path):
    with RunStatus(composed(), tmp_path, None) as status:
        status.complete({"val/acc": 0.5}, tested=False)
    assert recorded(tmp_path)["status"] == "untested"


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no")])
def test_an_error_is_recorded_and_raised_again(error, tmp_path):
    with pytest.raises(type(error), match="no"), RunStatus(composed(), tmp_path, None):
        raise error
    assert recorded(tmp_path)["error"] == f"{type(error).__name__}: no"
    assert recorded(tmp_path)["status"] == "failed"


@pytest.mark.parametrize(
    ("stop", "code"),
    [(KeyboardInterrupt(), 130), (SIGTERMException(), 143), (SystemExit(143), 143),
     (SystemExit(1), 130)],
)  # fmt: skip
def test_an_interruption_ends_with_the_code_of_its_signal(stop, code, tmp_path):
    with pytest.raises(SystemExit) as ended, RunStatus(composed(), tmp_path, None):
        raise stop
    assert ended.value.code == code
    assert recorded(tmp_path)["error"] == "interrupted"


def fail(*steps: Callable[[], object]) -> None:
    """Take some steps, then raise."""
    for step in steps:
        step()
    raise ValueError("no")


def completed(folder: Path) -> dict:
    with RunStatus(composed("seed=1"), folder, None) as status:
        status.accept(TASKS["image_classification"])
        status.begin(Identity({}), None, None)
        status.complete({"test/acc": 0.5}, tested=True)
    return recorded(folder)


def test_a_mistake_leaves_a_finished_run_in_the_folder(tmp_path):
    finished, config = completed(tmp_path), RunFolder(tmp_path).config.read_text()
    with pytest.raises(ValueError, match="no"), RunStatus(composed(), tmp_path, None) as status:
        fail(partial(status.accept, TASKS["image_classification"]))
    assert recorded(tmp_path) == finished
    assert RunFolder(tmp_path).config.read_text() == config


def test_a_run_that_trains_replaces_a_finished_one(tmp_path):
    completed(tmp_path)
    seen: list = []
    with pytest.raises(ValueError, match="no"), RunStatus(composed(), tmp_path, None) as status:
        fail(
            partial(status.accept, TASKS["image_classification"]),
            partial(status.begin, Identity({}), None, None),
            lambda: seen.append(read_result(tmp_path)),
        )
    assert seen[0]["status"] == "failed"  # while it trains
    assert recorded(tmp_path)["error"] == "ValueError: no"
    assert "test/acc" not in recorded(tmp_path)
    assert "seed: 0" in RunFolder(tmp_path).config.read_text()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    with RunStatus(composed(), tmp_path, None) as status:
        status.accept(TASKS["image_classification"])
        status.begin(Identity({}), None, None)
    assert list(tmp_path.iterdir()) == []
