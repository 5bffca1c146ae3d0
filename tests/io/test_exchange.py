"""Folders that replace others as a whole."""

from pathlib import Path

import pytest

from kd.io import exchange
from kd.io.exchange import replace_folder


@pytest.fixture
def folders(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path / "new", tmp_path / "old", tmp_path / "aside"


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_folder_is_replaced(exchanged, folders, monkeypatch):
    new, old, _ = folders
    if not exchanged:
        monkeypatch.setattr(exchange, "_exchange", lambda *_: False)
    replace_folder(*folders)
    assert (old / "file").read_text() == "new"
    replace_folder(old, new.with_name("first"), new)
    assert (new.with_name("first") / "file").read_text() == "new"


@pytest.mark.skipif("sys.platform != 'linux'")
def test_there_is_no_moment_without_a_folder(folders, monkeypatch):
    def no_rename(*_):
        raise AssertionError("two steps")

    monkeypatch.setattr(Path, "rename", no_rename)
    new, old, aside = folders
    replace_folder(new, old, aside)
    assert (old / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"


def test_a_move_that_fails_is_taken_back(folders, monkeypatch):
    new, old, aside = folders
    monkeypatch.setattr(exchange, "_exchange", lambda *_: False)
    rename = Path.rename

    def interrupted(self, target):
        if self == new:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, old, aside)
    assert (old / "file").read_text() == "old"
