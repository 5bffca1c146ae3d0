"""Deletion of a run's folder: its own files, or nothing."""

import pytest
from run_files import content, filled

from kd.errors import UserError
from kd.io.locks import clear
from kd.io.own_files import delete_run, remove_unfinished
from kd.io.run_folder import RunFolder


def test_a_run_is_deleted_as_a_whole(tmp_path):
    delete_run(filled(tmp_path / "run"))
    assert content(tmp_path) == set()
    delete_run(tmp_path / "run")  # which does not exist any more


def test_a_cleared_folder_keeps_its_lock(tmp_path):
    clear(filled(tmp_path))
    assert content(tmp_path) == {".lock"}


UNKNOWN = {
    "a file": lambda p: p.write_text("mine"),
    "a folder": lambda p: p.mkdir(),
    "a file in a folder of that name": lambda p: (p.mkdir(), (p / "result.json").touch()),
    "a link to a file": lambda p: p.symlink_to("result.json"),
    "a link to a folder": lambda p: p.symlink_to("checkpoints"),
    "a broken link": lambda p: p.symlink_to("nowhere"),
}
PLACES = ("notes", ".git", "checkpoints/epoch=3.ckpt", "csv/more.csv", "figures/mine.png", ".x.tmp")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_folder_with_anything_else_stays_as_it_is(kind, place, tmp_path):
    run = filled(tmp_path / "run")
    UNKNOWN[kind](run / place)
    before = content(run)
    for delete in (delete_run, clear):
        with pytest.raises(UserError, match="which kd has not written") as error:
            delete(run)
        assert place in str(error.value)
        assert content(run) == before


@pytest.mark.parametrize("place", ["result.json", "checkpoints/last.ckpt", "checkpoints", ".hydra"])
def test_a_link_in_place_of_an_own_file_is_not_followed(place, tmp_path):
    run, target = filled(tmp_path / "run"), filled(tmp_path / "target")
    before = content(target)
    moved = run / place
    moved.rename(tmp_path / "moved")
    moved.symlink_to(target / place)
    for delete in (delete_run, clear):
        with pytest.raises(UserError, match=moved.name):
            delete(run)
    assert content(target) == before
    assert (run / "student.safetensors").exists()


def test_a_linked_folder_is_not_emptied(tmp_path):
    target = filled(tmp_path / "target")
    before = content(target)
    (tmp_path / "run").symlink_to(target)
    for delete in (delete_run, clear):
        with pytest.raises(UserError, match="run is a symbolic link"):
            delete(tmp_path / "run")
    assert content(target) == before


def test_only_own_unfinished_files_are_removed(tmp_path):
    for name in (".result.json.12.tmp", ".backup.tmp", ".notes.12.tmp", ".result.json.12.tmp.gz"):
        (tmp_path / name).touch()
    (tmp_path / ".last.ckpt.12.tmp").symlink_to("elsewhere")
    remove_unfinished(tmp_path, RunFolder(tmp_path).is_own)
    assert {".backup.tmp", ".notes.12.tmp", ".result.json.12.tmp.gz"} < content(tmp_path)
    assert ".result.json.12.tmp" not in content(tmp_path)
