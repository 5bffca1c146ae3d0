"""Atomic writes: a reader sees the old file or the new one, whatever happens in between."""

import errno
import signal
import subprocess
import sys

import pytest
from commands import ROOT

from kd.io.atomic import link_atomic, replacing, write_atomic


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_while_writing_leaves_what_was_there(where, tmp_path):
    file = tmp_path / "state"
    file.write_bytes(b"old")
    module, _, name = where.rpartition(".")
    code = f"""
import os, pathlib, signal
from kd.io.atomic import write_atomic
{module}.{name} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(pathlib.Path({str(file)!r}), b"new" * 100_000)
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert answer.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"


def test_a_file_is_replaced_whole_and_nothing_else_remains(tmp_path):
    file = tmp_path / "new" / "state"
    for content in (b"old", b"new"):
        write_atomic(file, content)
        assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["state"]


def test_an_error_leaves_the_old_file(tmp_path):
    file = tmp_path / "state"
    file.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        temporary.write_bytes(bytes(1 // 0))
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_error_of_the_system_names_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists") as error:
        write_atomic(tmp_path / "file" / "state", b"new")
    assert error.value.filename == str(tmp_path / "file" / "state")


def test_an_error_without_a_number_stays_as_it_is(tmp_path):
    with pytest.raises(OSError, match=r"^out of space$"), replacing(tmp_path / "state"):
        raise OSError("out of space")


def test_the_file_gets_the_mode_that_the_umask_allows(tmp_path):
    """safetensors creates files with mode 0600."""
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "state") as temporary:
        temporary.write_bytes(b"")
        temporary.chmod(0o600)
    assert (tmp_path / "state").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_unfinished_files_match_their_pattern(tmp_path):
    with replacing(tmp_path / "state") as temporary:
        temporary.touch()
        assert list(tmp_path.glob(".*.tmp")) == [temporary]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_replaces_the_file_that_had_it(links, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr("os.link", fail)
    source, file = tmp_path / "best", tmp_path / "last"
    source.write_bytes(b"new")
    file.write_bytes(b"old")
    link_atomic(source, file)
    assert file.read_bytes() == b"new"
    assert file.samefile(source) == links
    assert len(list(tmp_path.iterdir())) == 2
