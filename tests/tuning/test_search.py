"""The command `kd.search`: runs, summary, interruption, shared storage, mistakes."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, Command
from conftest import TINY

CE = ("method=ce", "student=resnet8", "student.net.width=0.5", "logger=none")


@pytest.fixture(scope="module")
def start(output):
    """Start `python -m kd.search` on a grid of learning rates, in a process of its own."""

    def call(folder: Path, *overrides: str) -> Command:
        (output / "space" / "search").mkdir(parents=True, exist_ok=True)
        file = output / "space" / "search" / "rate.yaml"
        file.write_text("space:\n  optimizer.lr: {low: 0.01, high: 0.3, log: true}\n")
        return Command(
            *("kd.search", "--config-dir", str(output / "space")),
            *(*TINY, *CE, "search=rate", f"paths.output={output}"),
            *(f"hydra.run.dir={folder}", *overrides),
        )

    return call


def ended(process: Command, code: int = 0) -> str:
    completed = process.ended(timeout=500)
    assert completed.returncode == code, completed.stderr
    assert "Traceback" not in completed.stderr
    assert "Warning" not in completed.stderr
    return completed.stdout + completed.stderr


@pytest.fixture(scope="module")
def searched(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, ended(start(folder, "search.trials=3"))


def test_a_search_writes_runs_and_a_summary(searched):
    folder, printed = searched
    found = json.loads((folder / "search.json").read_text())
    assert (found["completed"], len(found["trials"])) == (3, 3)
    best, default = found["best"], found["trials"][0]
    assert default["defaults"]
    assert best["val/acc"] >= default["val/acc"]
    for trial in found["trials"]:
        result = json.loads((folder / f"trial_{trial['number']:04d}" / "result.json").read_text())
        assert (result["status"], result["val/acc"]) == ("untested", trial["val/acc"])
        assert not [key for key in result if key.startswith("test/")]
    assert f"{best['val/acc']:.4f}" in printed
    assert found["command"] in printed


def test_the_printed_command_repeats_the_best(searched, tmp_path):
    found = json.loads((searched[0] / "search.json").read_text())
    python, flag, *command = shlex.split(found["command"])
    assert (python, flag) == ("python", "-m")
    completed = Command(*command, f"hydra.run.dir={tmp_path}").ended()
    assert completed.returncode == 0, completed.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["val/acc"]) == ("completed", found["best"]["val/acc"])
    assert "test/acc" in result


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 400
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def content(folder: Path) -> list[dict]:
    trials = json.loads((folder / "search.json").read_text())["trials"]
    return [{key: value for key, value in t.items() if key != "folder"} for t in trials]


@pytest.mark.slow
def test_a_killed_search_is_the_same_search(start, tmp_path):
    """The killed trial keeps its number and its values; its worker's lock is free at once."""
    ended(start(tmp_path / "whole", "search.trials=4", "trainer.max_epochs=3"))
    arguments = (tmp_path / "killed", "search.trials=4", "trainer.max_epochs=3")
    process = start(*arguments)
    wait_for(tmp_path / "killed" / "trial_0002" / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGKILL)
    process.ended()
    kept = tmp_path / "killed" / "trial_0000" / "result.json"
    before = kept.stat().st_mtime_ns
    printed = ended(start(*arguments))
    assert kept.stat().st_mtime_ns == before
    assert "trial 2 (resumed): " in printed
    assert "waiting" not in printed
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    weights = [tmp_path / f / "trial_0002" / "student.safetensors" for f in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_workers_share_a_storage(start, tmp_path):
    shared = (f"search.storage={tmp_path / 'both.db'}", "search.trials=5")
    workers = [start(tmp_path / name, *shared) for name in ("a", "b")]
    for worker in workers:
        ended(worker)
    found = [json.loads((tmp_path / name / "search.json").read_text()) for name in ("a", "b")]
    assert found[0]["trials"] == found[1]["trials"]
    assert found[0]["completed"] == 5
    assert sum(trial["defaults"] for trial in found[0]["trials"]) == 1
    assert len({json.dumps(trial["overrides"]) for trial in found[0]["trials"]}) == 5
    assert all(Path(trial["folder"], "result.json").exists() for trial in found[0]["trials"])


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned(start, tmp_path, output):
    (output / "space" / "search").mkdir(parents=True, exist_ok=True)
    file = output / "space" / "search" / "hopeless.yaml"
    file.write_text("space:\n  optimizer.lr: {low: 1.0e-9, high: 2.0e-9}\n")
    process = start(
        tmp_path, "search=hopeless", "trainer.limit_train_batches=null", "trainer.max_epochs=3",
        "search.trials=3", "search.pruning={startup: 1, warmup: 1}",
    )  # fmt: skip
    ended(process)
    found = json.loads((tmp_path / "search.json").read_text())
    assert (found["completed"], found["pruned"], found["best"]["number"]) == (1, 2, 0)
    result = json.loads((tmp_path / "trial_0001" / "result.json").read_text())
    assert result["status"] == "pruned"
    assert found["trials"][1]["epochs"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search=rat"], "search=rat: there is no such option; did you mean 'rate'"),
        (["search.trials=0", "search.seed=x"], "search.trials=0: must .*\n  search.seed=x: must"),
        (["search.trails=5"], "no 'search.trails'.*did you mean 'search.trials'"),
        (["+search.space={method.alpha:{low:0,high:1}}"], "method=ce has no 'alpha'"),
        (["search.storage=/dev/null/s.db"], "cannot write to /dev/null.*|/dev/null"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_reported_in_one_message(overrides, message, start, tmp_path):
    printed = ended(start(tmp_path, *overrides), code=1)
    assert re.search(f"(?s)error: .*({message})", printed), printed
    assert not list(tmp_path.glob("trial_*"))


def test_a_missing_optuna_is_reported(tmp_path):
    code = (
        "import sys, importlib.util; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda n, *a: None if n == 'optuna' else find(n, *a); "
        f"sys.argv[1:] = ['hydra.run.dir={tmp_path}']; import kd.search; kd.search.main()"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert completed.returncode == 1
    assert "error: python -m kd.search needs Optuna: pip install -e '.[search]'" in completed.stderr
