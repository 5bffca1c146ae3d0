"""Files of other kinds are refused at once, without waiting for their content."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support import within

from kd.errors import UserError
from kd.io.regular_files import check_regular, read_bytes, read_text


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a named pipe": fifo,
    "a socket": listening,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [check_regular, read_bytes])
def test_only_regular_files_are_read(kind, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    KINDS[kind](Path("a"))
    with within(5), pytest.raises(UserError, match=f"a is {kind}"):
        read(Path("a"), 100)


def test_a_missing_file_keeps_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_bytes(tmp_path / "a", 100)
    assert error.value.filename == str(tmp_path / "a")


def test_a_link_in_a_circle_is_an_error_of_its_own(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read_bytes(tmp_path / "a", 100)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_a_file_that_reports_no_size_is_bounded():
    with pytest.raises(UserError, match="accepted"):
        read_bytes(Path("/proc/self/maps"), 100)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_text(tmp_path / "a", 100)
