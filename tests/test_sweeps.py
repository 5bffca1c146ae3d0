"""Sweeps with the launchers of joblib and submitit, and sweeps kept in files."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from lightning import Callback
from omegaconf import OmegaConf
from support import OTHER_METHODS, present

from kd.config.compose import CONF_DIR, plain, register_models
from kd.config.messages import user_message

SMALL = ("method=ce", "student=resnet8", "student.net.width=0.5", "logger=none")
SIDE_BY_SIDE = ("-m", *SMALL, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
HERE = {"PYTHONPATH": str(Path(__file__).parent)}


class Threads(Callback):
    """Write the number of threads of each process to `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module) -> None:
        (self.folder / str(os.getpid())).write_text(str(torch.get_num_threads()))


class KillOnce(Callback):
    """Kill the first process that starts training, as the kernel does without memory."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def on_train_start(self, trainer, pl_module) -> None:
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def statuses(folder: Path) -> list[str]:
    found = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    return sorted(result["status"] for result in found)


@pytest.mark.slow
def test_jobs_side_by_side_have_one_thread_and_fail_alone(train, tmp_path):
    (tmp_path / "threads").mkdir()
    watch = f"+callbacks.threads={{_target_: test_sweeps.Threads, folder: {tmp_path / 'threads'}}}"
    answer = train(
        *SIDE_BY_SIDE, "optimizer.lr=1e38,0.1", "seed=0,1", "scheduler.warmup=0", watch,
        f"hydra.sweep.dir={tmp_path / 'sweep'}", OMP_NUM_THREADS="2", fresh=True, **HERE,
    )  # fmt: skip
    assert answer.returncode == 1
    for job in (0, 1):  # when it fails, with its folder
        line = f"job {job} failed, {tmp_path / 'sweep'}/{job}_ce_resnet8_s{job}: the loss is not"
        assert answer.stdout.count(line) == 1
    summary = f"sweep in {tmp_path / 'sweep'}: 4 jobs, 2 completed, 2 failed; compare them with: "
    assert f"{summary}python -m kd.report sweep={tmp_path / 'sweep'}" in answer.stdout
    assert "error: 2 jobs failed; the same command with hydra.sweep.dir=" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert statuses(tmp_path / "sweep") == ["completed", "completed", "failed", "failed"]
    counts = [path.read_text() for path in (tmp_path / "threads").iterdir()]
    assert counts == ["1"] * len(counts)
    assert 1 <= len(counts) <= 2


@pytest.mark.slow
def test_the_same_command_completes_a_sweep_whose_worker_was_killed(train, tmp_path):
    kill = f"+callbacks.kill={{_target_: test_sweeps.KillOnce, mark: {tmp_path / 'mark'}}}"
    command = (*SIDE_BY_SIDE, "seed=0,1,2", kill, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    answer = train(*command, fresh=True, **HERE)
    assert answer.returncode == 1
    assert "a job's process was killed" in answer.stderr
    assert "Traceback" not in answer.stderr
    done = list((tmp_path / "sweep").glob("*/result.json"))
    before = {path: path.stat().st_mtime_ns for path in done}
    assert len(done) < 3

    again = train(*command, fresh=True, **HERE)
    assert again.returncode == 0, again.stderr
    assert statuses(tmp_path / "sweep") == ["completed"] * 3
    assert "3 jobs, 3 completed; compare them with" in again.stdout
    assert again.stdout.count("nothing to do") == len(done)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def launched(*overrides: str):
    """Hydra's part of the config, as a job sees it."""
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg.hydra


@pytest.mark.parametrize(
    ("overrides", "threads"),
    [
        ([], None),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], "1"),
        (["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=3"], "3"),
        (["hydra/launcher=submitit_local"], None),
        (["hydra/launcher=slurm"], "4"),
        (["hydra/launcher=ray"], "1"),
    ],
)
def test_threads_of_a_job(overrides, threads):
    if any("submitit" in text or "slurm" in text for text in overrides):
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    expected = {} if threads is None else dict.fromkeys(names, threads)
    assert launched(*overrides).job.env_set == expected


def test_the_slurm_script_requests_the_configured_resources(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    submitit = pytest.importorskip("submitit")
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    launcher = launched(
        "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.account=vision",
        "hydra.job.name=train", "hydra.launcher.submitit_folder=logs",
    ).launcher  # fmt: skip
    (tmp_path / "srun").touch(0o755)  # submitit searches PATH for it
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    # As the plugin passes them on
    common = set(OmegaConf.structured(BaseQueueConf))
    apart = {"_target_", "submitit_folder", "max_num_timeout"}
    values = plain(launcher)
    executor = submitit.AutoExecutor(cluster="slurm", folder=tmp_path)
    executor.update_parameters(
        **{k if k in common else f"slurm_{k}": v for k, v in values.items() if k not in apart}
    )
    text = executor._executor._make_submission_file_text("command", "uid")
    for line in (
        *("cpus-per-task=4", "gpus-per-node=1", "job-name=train", "mem=16GB", "nodes=1"),
        *("ntasks-per-node=1", "partition=gpu", "account=vision", "time=1440"),
    ):
        assert f"#SBATCH --{line}\n" in text, text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MissingConfigException("", "hydra/launcher/joblib", ["basic"]),
            "hydra/launcher=joblib is not installed: pip install -e '.[sweep]'",
        ),
        (
            MissingConfigException("", "hydra/launcher/submitit_slurm", ["basic"]),
            "hydra/launcher=submitit_slurm is not installed: pip install -e '.[cluster]'",
        ),
        (
            MissingConfigException("", "hydra/launcher/joblbi", ["basic", "joblib"]),
            "hydra/launcher=joblbi: there is no such option; did you mean 'joblib'",
        ),
        (
            RuntimeError(
                "Unknown plugin class : 'hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher'"
            ),
            "hydra/launcher=ray is not installed: pip install -e '.[ray]'",
        ),
        (
            RuntimeError('Could not detect "srun", are you'),
            "hydra/launcher: this machine has no srun",
        ),
    ],
)
def test_missing_launchers_are_named(error, message):
    assert present(user_message(error)).startswith(message)


def test_the_sweep_over_methods_has_every_method():
    swept = OmegaConf.load(CONF_DIR / "sweep" / "methods.yaml").hydra.sweeper.params.method
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        (override,) = OverridesParser.create(loader).parse_overrides([f"method={swept}"])
    every = {path.stem for path in (CONF_DIR / "method").glob("*.yaml")}
    assert sorted(override.sweep_string_iterator()) == sorted(every - {*OTHER_METHODS})
