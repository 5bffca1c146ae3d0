"""A run's folder before the run: nothing of the user's is overwritten, also not through a link."""

import os
from pathlib import Path

import pytest
from run_files import content, filled

from kd.errors import UserError
from kd.io.locks import exclusive_folder
from kd.io.run_places import check_places

FILES = (
    *("result.json", "student.safetensors", "csv/metrics.csv", ".hydra/config.yaml"),
    *("hparams.yaml", "figures/confusion.png", "epochs/epoch_0001.safetensors"),
)


def test_a_new_an_empty_and_a_runs_folder_are_accepted(tmp_path):
    check_places(tmp_path / "new")
    check_places(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".lock").touch()
    (tmp_path / "train.log").touch()
    check_places(tmp_path)
    check_places(filled(tmp_path / "run"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_users_is_not_overwritten(name, tmp_path):
    file = tmp_path / "docs" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"mine": 1}')
    with (
        pytest.raises(UserError, match="would replace") as error,
        exclusive_folder(tmp_path / "docs"),
    ):
        pass
    assert name in str(error.value)
    assert file.read_text() == '{"mine": 1}'
    assert not (tmp_path / "docs" / ".lock").exists()


PLACES = (*FILES, "checkpoints/last.ckpt", "train.log", ".lock", "checkpoints", ".hydra", "csv")


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_through_a_link(place, tmp_path):
    run, target = filled(tmp_path / "run"), filled(tmp_path / "target")
    if (run / place).exists():
        (run / place).rename(tmp_path / "moved")
    (run / place).symlink_to(target / place)
    before = content(target)
    with pytest.raises(UserError, match="is a symbolic link"), exclusive_folder(run):
        pass
    assert content(target) == before


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("place", [p for p in PLACES if "." in p[1:]] + [".lock"])
def test_another_kind_in_place_of_a_file_is_named(make, place, tmp_path):
    run = filled(tmp_path / "run")
    (run / place).unlink(missing_ok=True)
    make(run / place)
    with pytest.raises(UserError, match="where the run has its file") as error:
        check_places(run)
    assert str(run / place) in str(error.value)


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="run is not a folder"):
        check_places(tmp_path / "run")
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="where the run has its folder"):
        check_places(tmp_path)
