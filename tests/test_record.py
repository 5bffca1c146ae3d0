"""What a run writes down of how it was told, and going on from that; one process a folder."""

import shutil

import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from test_run import configured

from kd.cli import continued
from kd.errors import UserError
from kd.lock import alone_in
from kd.record import CONFIG, OVERRIDES, recorded_command, write_record
from kd.results import read_result
from kd.run import run

SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5")


def hydra(*task, config_dir=None, search=()):
    """Hydra's part of a config, as far as it is read again."""
    sources = [{"provider": "main", "path": "conf", "schema": "file"}]
    if config_dir is not None:
        sources.append({"provider": "command-line", "path": config_dir, "schema": "file"})
    own = ["hydra.mode=RUN", *(f"hydra.searchpath=[{path}]" for path in search)]
    content = {"overrides": {"task": [*task], "hydra": own}}
    return OmegaConf.create(content | {"runtime": {"config_sources": sources}})


def test_a_run_goes_on_with_the_command_that_began_it(tmp_path):
    write_record(tmp_path, OmegaConf.create({"seed": 1}), hydra("seed=1", "method=fitnet"))
    place = f"hydra.run.dir='{tmp_path}'"
    assert continued([f"resume={tmp_path}"]) == ["seed=1", "method=fitnet", place]
    told = continued([f"resume={tmp_path}", "seed=2"])
    assert told == ["seed=2", "method=fitnet", place, f"resume={tmp_path}"]


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


# One process a folder


def test_a_folder_in_which_another_process_is_at_work(output, tmp_path):
    with alone_in(tmp_path), pytest.raises(UserError, match="another process is at work in"):
        run(configured(tmp_path, output, "method=ce"), tmp_path)
    assert read_result(tmp_path) is None
    assert not (tmp_path / ".hydra").exists()


def test_a_file_system_without_locks_serves_one_process(tmp_path, monkeypatch):
    def unknown(self, *_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("kd.lock.FileLock.acquire", unknown)
    with alone_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
