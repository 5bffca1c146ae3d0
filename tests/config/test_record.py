"""What a run writes down of how it was told, and going on from that; one process a folder."""

import errno
import os
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
from commands import ROOT
from lightning import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from support import configured, hydra

import kd.train
from kd.config.messages import user_message
from kd.config.overrides import continued
from kd.config.record import recorded_command, write_record
from kd.errors import UserError
from kd.io.locks import clear, exclusive_folder, locked
from kd.io.result_file import read_result
from kd.training.run import run

CONFIG, OVERRIDES = ".hydra/config.yaml", ".hydra/overrides.yaml"

SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5")


def test_a_run_goes_on_with_the_command_that_began_it(tmp_path):
    write_record(tmp_path, OmegaConf.create({"seed": 1}), hydra("seed=1", "method=fitnet"))
    here = ["hydra.mode=RUN", f"hydra.run.dir='{tmp_path}'"]
    assert continued([f"resume={tmp_path}"]) == ["seed=1", "method=fitnet", *here]
    told = continued([f"resume={tmp_path}", "seed=2"])
    assert told == ["method=fitnet", *here, "seed=2", f"resume={tmp_path}"]
    assert continued([f"resume={tmp_path}", "~sweep"])[-2:] == ["~sweep", f"resume={tmp_path}"]


def test_what_a_run_began_from_is_part_of_its_command(tmp_path):
    """Killed before its first state, it begins there again."""
    write_record(tmp_path, OmegaConf.create(), hydra("resume=other/checkpoints/last.ckpt"))
    assert "resume=other/checkpoints/last.ckpt" in continued([f"resume={tmp_path}"])
    told = continued([f"resume={tmp_path}", "seed=2"])
    assert [part for part in told if part.startswith("resume=")] == [f"resume={tmp_path}"]


def test_it_finds_its_options_where_they_were(tmp_path):
    write_record(
        tmp_path, OmegaConf.create(), hydra("a=1", config_dir="/mine", search=["file://x"])
    )
    elsewhere = ["--config-dir=/mine", "hydra.searchpath=[file://x]"]
    assert recorded_command(tmp_path) == [*elsewhere, "a=1"]
    for flag in (["--config-dir=/other"], ["--config-dir", "/other"], ["-cd", "/other"]):
        line = continued([*flag, f"resume={tmp_path}"])
        assert "--config-dir=/mine" not in line
        assert line[: len(flag)] == flag
        assert continued([f"resume={tmp_path}", "a=2", *flag])[: len(flag)] == flag
        assert f"resume={tmp_path}" not in line  # it is still the same run


@pytest.mark.parametrize("content", ["a: [", "[]", "hydra: {runtime: 3}", "\0"])
def test_a_damaged_record_is_named(content, tmp_path):
    write_record(tmp_path, OmegaConf.create(), hydra("a=1"))
    (tmp_path / ".hydra" / "hydra.yaml").write_text(content)
    with pytest.raises(UserError, match=r"hydra\.yaml (is damaged|cannot be read)"):
        recorded_command(tmp_path)


def test_options_of_ones_own_folder_are_found_again(train, tmp_path):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    shutil.copy(ROOT / "conf" / "method" / "kd.yaml", tmp_path / "conf" / "method" / "mine.yaml")
    run_in = f"hydra.run.dir={tmp_path / 'run'}"
    answer = train(f"--config-dir={tmp_path / 'conf'}", "method=mine", *SMALL, run_in)
    assert answer.returncode == 0, answer.stderr
    again = train(f"resume={tmp_path / 'run'}", tiny=False)
    assert again.returncode == 0, again.stderr
    assert "holds this run, finished" in again.stdout


def test_a_refused_command_leaves_the_record(train, tmp_path):
    run_in = f"hydra.run.dir={tmp_path}"
    assert train(*SMALL, "method=ce", run_in).returncode == 0
    before = [(tmp_path / name).read_bytes() for name in (CONFIG, OVERRIDES, "result.json")]
    refused = train(*SMALL, "method=ce", "seed=3", run_in)
    assert refused.returncode == 1
    # one message, and nothing of Hydra's before it
    assert refused.stderr.startswith(f"error: {tmp_path} holds a finished run of another")
    assert train("method=ce", "optimizer.lr=-1", run_in, f"resume={tmp_path}").returncode == 1
    after = [(tmp_path / name).read_bytes() for name in (CONFIG, OVERRIDES, "result.json")]
    assert after == before


def test_a_job_of_a_sweep_goes_on_alone(train, tmp_path):
    run_in = f"hydra.run.dir={tmp_path}"
    assert train(*SMALL, "method=ce", run_in).returncode == 0
    with (tmp_path / OVERRIDES).open("a") as file:
        file.write("- sweep=seeds\n")  # which asks for a sweep
    again = train(f"resume={tmp_path}", tiny=False)
    assert "holds this run, finished" in again.stdout


# A finished run, and what is told to go on from it


@pytest.fixture
def finished(output, tmp_path):
    """A finished run's folder, and how to tell another from it."""

    def told(*overrides):
        return configured(tmp_path, output, "method=ce", "trainer.max_epochs=1", *overrides)

    run(told(), tmp_path, hydra=hydra("method=ce"))
    return tmp_path, told


def test_a_late_mistake_costs_no_finished_run(finished):
    folder, told = finished
    names = ("result.json", CONFIG, OVERRIDES, "checkpoints/last.ckpt")
    before = [(folder / name).read_bytes() for name in names]
    wrong = told(f"resume={folder}", "trainer.max_epochs=2", "student.checkpoint=nowhere")
    with pytest.raises(UserError, match=r"student\.checkpoint=nowhere"):
        run(wrong, folder, hydra=hydra("student.checkpoint=nowhere"))
    assert [(folder / name).read_bytes() for name in names] == before


class Standing(Callback):
    """Note what the result says while the training goes on, for whoever comes after a kill."""

    seen: ClassVar[list] = []

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.append(read_result(self.folder))


def test_a_finished_run_that_goes_on_counts_as_unfinished(finished):
    folder, told = finished
    watch = f"+callbacks.watch={{_target_: test_record.Standing, folder: '{folder}'}}"
    cfg = told(f"resume={folder}", "trainer.max_epochs=2", watch)
    assert run(cfg, folder, hydra=hydra("trainer.max_epochs=2"))["epochs"] == 2
    (standing,) = Standing.seen
    assert (standing["status"], standing["error"]) == ("failed", "not finished")
    assert recorded_command(folder) == ["trainer.max_epochs=2"]


def test_another_runs_folder_is_not_overwritten(finished, output, tmp_path_factory):
    folder, told = finished
    other = tmp_path_factory.mktemp("other")
    cfg = configured(other, output, "method=ce", "trainer.max_epochs=1", "seed=1")
    run(cfg, other)
    foreign = told(f"resume={other / 'checkpoints' / 'last.ckpt'}", "seed=2")
    with pytest.raises(UserError, match="holds a finished run of another configuration"):
        kd.train.finished(foreign, folder)
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    with pytest.raises(UserError, match=r"last\.ckpt is of a run with another configuration"):
        run(foreign, folder)
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == best
    assert read_result(folder)["status"] == "completed"


# One process a folder


def test_a_process_that_takes_itself_for_a_helper_is_refused(output, tmp_path, monkeypatch):
    """srun starts a command several times; all but the first would train and write nothing."""
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    with pytest.raises(UserError, match=r"SLURM_PROCID.* process 3 of several"):
        run(configured(tmp_path, output, "method=ce"), tmp_path)


def test_a_folder_in_which_another_process_is_at_work(output, tmp_path):
    with (
        exclusive_folder(tmp_path),
        pytest.raises(UserError, match="another process is at work in"),
    ):
        run(configured(tmp_path, output, "method=ce"), tmp_path)
    assert read_result(tmp_path) is None
    assert not (tmp_path / ".hydra").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(number, tmp_path, monkeypatch):
    """A run goes on without; where processes wait for one another they are refused."""

    def unknown(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", unknown)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"), exclusive_folder(tmp_path):
            pass
        return
    with exclusive_folder(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    with pytest.raises(OSError, match="knows no locks") as refused, locked(tmp_path / "lock", ""):
        pass
    assert f"cannot write to {tmp_path}/lock: the file system knows no" in user_message(
        refused.value
    )


def test_clearing_a_folder_asks_whether_somebody_is_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with exclusive_folder(tmp_path), pytest.raises(UserError, match="another process"):
        clear(tmp_path)
    assert (tmp_path / "folder" / "file").exists()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
