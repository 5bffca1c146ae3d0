"""Locks: one process a folder, also where the file system has none."""

import errno
import os

import pytest
from lightning.pytorch.utilities import rank_zero_only
from support import configured, present

from kd.config.messages import user_message
from kd.errors import UserError
from kd.io.locks import clear, exclusive_folder, locked
from kd.io.result_file import read_result
from kd.training.run import run


def test_a_single_process_with_the_rank_of_another_is_refused(output, tmp_path, monkeypatch):
    """`srun` starts a command several times; all but the first would train and write nothing."""
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    with pytest.raises(UserError, match=r"SLURM_PROCID.* process 3 of several"):
        run(configured(tmp_path, output, "method=ce"), tmp_path)


def test_a_folder_that_another_process_has_locked(output, tmp_path):
    with (
        exclusive_folder(tmp_path),
        pytest.raises(UserError, match="another process uses"),
    ):
        run(configured(tmp_path, output, "method=ce"), tmp_path)
    assert read_result(tmp_path) is None
    assert not (tmp_path / ".hydra").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(number, tmp_path, monkeypatch):
    """A run needs no lock; code in which processes wait for one another is refused."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"), exclusive_folder(tmp_path):
            pass
        return
    with exclusive_folder(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    with pytest.raises(OSError, match="has no locks") as refused, locked(tmp_path / "lock", ""):
        pass
    message = present(user_message(refused.value))
    assert f"cannot write to {tmp_path}/lock: its file system has no locks" in message


def test_a_locked_folder_is_not_cleared(tmp_path):
    with exclusive_folder(tmp_path / "run"):
        (tmp_path / "run" / "train.log").touch()
        with pytest.raises(UserError, match="another process"):
            clear(tmp_path / "run")
    assert (tmp_path / "run" / "train.log").exists()
    clear(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
