"""Tests of kd.config.output_folder: no log goes through a link, a refused run leaves nothing."""

from pathlib import Path

import pytest
from commands import Command
from omegaconf import OmegaConf
from support import composed

from kd.config.output_folder import OutputFolder, remove_unused
from kd.config.record import write_record
from kd.io.locks import exclusive_folder, locked
from kd.io.result_file import write_result
from kd.io.run_folder import RunFolder


def make_run(folder: Path) -> RunFolder:
    """Make the folder as Hydra and a run do that is refused before its training."""
    OutputFolder().on_run_start(OmegaConf.create({"hydra": {"run": {"dir": str(folder)}}}))
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_folder(folder):
        (folder / "train.log").touch()
        write_result(folder, {"status": "failed"})
    return RunFolder(folder)


def test_a_refused_run_leaves_nothing(tmp_path):
    make_run(tmp_path / "outputs" / "runs" / "a")
    remove_unused()
    assert not [*tmp_path.iterdir()]


def test_only_a_folder_without_training_and_other_files_is_removed(tmp_path):
    (tmp_path / "existing").mkdir()
    begun, used, noted, own = (tmp_path / name for name in ("begun", "used", "noted", "existing"))
    write_result(make_run(begun).root, {"status": "failed", "config_hash": "0"})
    remove_unused()
    with locked(make_run(used).lock, waiting=""):
        remove_unused()
    (make_run(noted).root / "notes.txt").touch()
    remove_unused()
    make_run(own)
    remove_unused()
    for folder in (begun, used, noted, own):
        assert {".lock", "result.json", "train.log"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("override", ["seed=-1", "resume=last", "teacher.checkpoint=nowhere.pt"])
def test_a_refused_command_leaves_nothing(override, tmp_path):
    answer = Command("kd.train", override, f"paths.output={tmp_path / 'new'}").ended()
    assert answer.returncode == 1
    assert override.partition("=")[2] in answer.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("module", "log", "folder", "arguments"),
    [
        ("kd.train", "train.log", "a", ["hydra.run.dir={}/a"]),
        ("kd.train", "train.log", "s/0", ["-m", "hydra.sweep.dir={}/s", "hydra.sweep.subdir=0"]),
        ("kd.train", "train.log", "s", ["-m", "hydra.sweep.dir={}/s", "hydra.sweep.subdir=."]),
        ("kd.chain", "chain.log", "a", ["stages=[resnet8,resnet8]", "hydra.run.dir={}/a"]),
        ("kd.search", "search.log", "a", ["hydra.run.dir={}/a"]),
    ],
)
def test_no_log_goes_through_a_link(module, log, folder, arguments, tmp_path):
    """The folder may come from somebody else, and the link lead to a file of the user's."""
    mine, link = tmp_path / "mine.txt", tmp_path / folder / log
    mine.write_text("mine")
    link.parent.mkdir(parents=True)
    link.symlink_to(mine)
    answer = Command(module, *(word.format(tmp_path) for word in arguments)).ended()
    assert answer.returncode == 1
    assert f"error: {link} is a symbolic link" in answer.stderr
    assert mine.read_text() == "mine"
    assert [*link.parent.iterdir()] == [link]


def test_the_log_of_a_resumed_run_is_no_link(tmp_path):
    folder, mine = tmp_path / "run", tmp_path / "mine.txt"
    write_record(folder, composed())
    mine.write_text("mine")
    (folder / "train.log").symlink_to(mine)
    answer = Command("kd.train", f"resume={folder}").ended()
    assert f"error: {folder / 'train.log'} is a symbolic link" in answer.stderr
    assert mine.read_text() == "mine"
