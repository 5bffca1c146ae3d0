"""Searching: spaces, proposals, pruning, and a study that outlives its workers."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from commands import ROOT, Command
from conftest import TINY
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from kd.config.compose import CONF_DIR, plain, register_models
from kd.errors import UserError
from kd.tuning.pruning import ReportToTrial
from kd.tuning.sampler import SeededByTrial, suggested
from kd.tuning.space import Choices, Range, override, read_space
from kd.tuning.study import Search
from kd.tuning.trial_configs import checked_space, default_values, merged, run_overrides

RATE = {"optimizer.lr": Range(0.001, 0.3, log=True)}
SETTINGS = {"trials": 6, "seed": 0, "storage": None, "heartbeat": 1}
SETTINGS |= {"pruning": {"startup": 1, "warmup": 0}}
CE = ("method=ce", "student=resnet8", "student.net.width=0.5", "logger=none")


# What may vary


def test_a_space_is_ranges_and_choices():
    space = read_space({
        "method.temperature": {"low": 1, "high": 20, "step": 1},
        "method.alpha": {"low": 0, "high": 1},
        "optimizer.lr": {"low": 1e-3, "high": 0.3, "log": True},
        "method": ["kd", "dkd"],
        "optimizer.nesterov": [True, False],
    })  # fmt: skip
    assert [part.whole for part in space.values() if isinstance(part, Range)] == [
        True,
        False,
        False,
    ]
    assert 4 in space["method.temperature"]
    assert 4.5 not in space["method.temperature"]
    assert 0.5 in space["method.alpha"]
    assert 1.5 not in space["method.alpha"]
    assert "kd" in space["method"]
    assert None not in space["method.alpha"]
    assert 1 not in space["optimizer.nesterov"]  # is not true


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"low": 1, "high": 1}, "low must be < high, got 1 and 1"),
        ({"low": 2, "high": 1}, "low must be < high"),
        ({"low": 0, "high": 1, "log": True}, "with log, low must be > 0"),
        ({"low": "a", "high": 1}, "low must be a number, got 'a'"),
        ({"low": 0, "high": 1, "log": "yes"}, "log must be true or false"),
        ({"low": 1, "high": 10, "log": True, "step": 1}, "log and step exclude each other"),
        ({"low": 0, "high": 1, "step": 0.3}, "step must be > 0 and lead from low to high"),
        ({"low": 0, "high": 1, "step": -1}, "step must be > 0"),
        ({"low": 0}, "a range needs low and high"),
        ({"low": 0, "hihg": 1}, "no 'hihg'; did you mean 'high'"),
        (4, "must be {low: …, high: …} or a list of choices, got 4"),
        ([], "the choices must be some"),
        (["kd", "kd"], "and differ"),
        ([["stage1"]], r"a choice must be a plain value, got \['stage1'\]"),
    ],
)
def test_mistakes_in_a_space_are_named(part, message):
    with pytest.raises(UserError, match=f"search.space, optimizer.lr: .*{message}"):
        read_space({"optimizer.lr": part})


def test_an_empty_space_is_refused():
    with pytest.raises(UserError, match=r"search\.space is empty"):
        read_space({})


@pytest.mark.parametrize(
    "value", [3, 0.1, 1e-7, True, None, "kd", "true", "a b", "it's", "a,b", "x=y"]
)
def test_overrides_say_what_was_chosen(value):
    (parsed,) = OverridesParser.create().parse_overrides([override("some.key", value)])
    said = parsed.value()
    assert (str(said), parsed.is_sweep_override()) == (str(value), False)
    assert type(getattr(said, "text", said)) is type(value)


def test_the_runs_get_what_does_not_concern_the_search():
    given = ["method=dkd", "search=method", "search.trials=3", "~search.storage", "optimizer.lr=1"]
    base = run_overrides(given)
    assert base == ["method=dkd", "optimizer.lr=1"]
    assert merged(base, ["optimizer.lr=2"]) == ["method=dkd", "optimizer.lr=2"]


@pytest.fixture
def _conf():
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


@pytest.mark.usefixtures("_conf")
def test_the_defaults_come_from_the_config_and_the_command_line():
    space = {"method": Choices(("kd", "dkd")), "method.temperature": Range(1, 9), **RATE}
    expected = {"method": "dkd", "method.temperature": 4.0, "optimizer.lr": 0.2}
    base = ["paths.run=run", "method=dkd", "optimizer.lr=0.2"]
    assert default_values(space, base) == expected


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"method.temprature": Range(1, 2)}, "'temprature'; its knobs: .*temperature"),
        ({"optimizer.lrr": Range(1, 2)}, "no 'optimizer.lrr'.*did you mean 'lr'"),
        ({"metod": Choices(("kd",))}, "no 'metod'.*did you mean 'method'"),
        ({"method": Choices(("kd", "dkdd"))}, "method=dkdd: there is no such.*did you mean 'dkd'"),
        ({"method.alpha": Range(0, 2)}, "method.alpha=2: must be in"),
        (
            {"method.alpha": Range(0, 1), "method": Choices(("kd", "ttm"))},
            "method=ttm has no 'alph",
        ),
        ({"method.temperature": Choices((1, "hot"))}, "method.temperature=hot: must be a number"),
    ],
)
def test_values_that_no_run_can_have_are_named_at_once(space, message):
    with pytest.raises(UserError, match=f"(?s)^search.space, .*{message}"):
        checked_space(space, ["paths.run=run"])


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize("name", [path.stem for path in (CONF_DIR / "search").glob("*.yaml")])
def test_the_spaces_kept_in_files_are_possible(name):
    cfg = compose("search", [f"search={name}", "paths.run=run"])
    space = read_space(plain(cfg.search.space))
    checked_space(space, ["paths.run=run"])
    assert all(v in space[k] for k, v in default_values(space, ["paths.run=run"]).items())


# Proposals and pruning


def proposals(file: Path, *counts: int, seed: int = 3) -> list[dict]:
    """The parameters of as many trials as `counts` says, each count by a worker of its own."""
    space = {**RATE, "momentum": Range(0, 1), "steps": Range(2, 8, step=2), "n": Choices((1, "a"))}
    for count in counts:
        study = optuna.create_study(
            storage=f"sqlite:///{file}", study_name="s", sampler=SeededByTrial(seed),
            load_if_exists=True, direction="maximize",
        )  # fmt: skip
        for _ in range(count):
            trial = study.ask()
            values = {key: suggested(trial, key, part) for key, part in space.items()}
            assert all(value in space[key] for key, value in values.items())
            study.tell(trial, -abs(values["optimizer.lr"] - 0.01))
    return [trial.params for trial in study.trials]


def test_proposals_depend_on_seed_and_number_not_on_starts(tmp_path):
    whole = proposals(tmp_path / "a", 14)
    assert proposals(tmp_path / "b", 4, 8, 2) == whole
    assert proposals(tmp_path / "c", 4, seed=4) != whole[:4]
    assert len({trial["momentum"] for trial in whole}) == 14
    # The parts of one proposal are not drawn alike.
    assert abs(whole[0]["momentum"] - whole[1]["momentum"]) > 1e-6
    for trial in whole[:3]:
        share = torch.tensor(trial["optimizer.lr"] / 0.001).log() / torch.tensor(300.0).log()
        assert abs(share - trial["momentum"]) > 1e-4


def epoch_of(trial: optuna.Trial, epoch: int, accuracy: float, **flags: bool) -> None:
    metrics = {"val/acc": torch.tensor(accuracy)}
    trainer = SimpleNamespace(
        sanity_checking=False, current_epoch=epoch - 1, callback_metrics=metrics
    )
    ReportToTrial(trial, **flags).on_validation_end(trainer, None)


def test_what_falls_behind_the_median_is_pruned():
    # warmup 1: nothing is judged in epoch 1
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, 2))
    for accuracies in ((0.5, 0.6), (0.7, 0.8)):
        trial = study.ask()
        for epoch, accuracy in enumerate(accuracies, start=1):
            epoch_of(trial, epoch, accuracy)
        study.tell(trial, accuracies[-1])
    good, bad, spared = study.ask(), study.ask(), study.ask()
    for trial in (good, bad, spared):
        epoch_of(trial, 1, 0.1)
    epoch_of(good, 2, 0.75)  # the median of epoch 2 is 0.7
    epoch_of(spared, 2, 0.65, prune=False)
    with pytest.raises(optuna.TrialPruned, match=r"0\.6500 in epoch 2"):
        epoch_of(bad, 2, 0.65)
    assert study.trials[3].intermediate_values == pytest.approx({1: 0.1, 2: 0.65})


# The study, with runs that cost nothing


@pytest.fixture
def search(tmp_path, monkeypatch, _conf):
    """Make a Search whose runs are worth 1 − |lr − 0.02|, or what `worth` says of their lr."""

    def make(worth=lambda lr: 1 - abs(lr - 0.02), space=RATE, experiment="x", **settings):
        def fake(cfg, folder, callbacks, test):
            assert not test
            assert folder == Path(cfg.paths.run)
            return {"val/acc": worth(cfg.optimizer.lr), "best_epoch": 1}

        monkeypatch.setattr("kd.tuning.study.run", fake)
        base = ["method=ce", "paths.run=run"]
        return Search(
            space, default_values(space, base), lambda o: compose("train", [*base, *o]),
            experiment, tmp_path, SETTINGS | settings,
        )  # fmt: skip

    return make


def states(made: Search) -> list[str]:
    return [trial.state.name for trial in made.study.trials]


def test_the_defaults_come_first_and_the_best_is_no_worse(search):
    made = search()
    made.run()
    first = made.study.trials[0]
    assert (first.value, first.user_attrs["overrides"]) == (0.97, [])
    assert first.params == {"optimizer.lr": 0.05}
    assert made.best().value >= first.value
    assert states(made) == ["COMPLETE"] * 6


def test_of_equal_trials_the_first_is_best(search):
    made = search(worth=lambda lr: 0.5)
    made.run()
    assert made.best().number == 0


def test_defaults_outside_the_space_are_tried_all_the_same(search):
    made = search(space={"optimizer.lr": Range(0.1, 0.3)}, trials=3)
    made.run()
    assert made.study.trials[0].value == 0.97
    assert made.study.trials[0].params == {}
    assert all(0.1 <= trial.params["optimizer.lr"] <= 0.3 for trial in made.study.trials[1:])


def test_trials_are_counted_over_all_starts(search):
    search(trials=2).run()
    made = search(trials=3)
    made.run()
    assert states(made) == ["COMPLETE"] * 3
    search(trials=3).run()
    assert len(made.study.trials) == 3


def test_a_trial_that_fails_is_the_worst_and_the_search_goes_on(search):
    def worth(lr):
        if lr > 0.1:
            raise UserError("the loss is not finite")
        return lr

    made = search(worth=worth, space={"optimizer.lr": Choices((0.05, 0.2, 0.02))}, trials=6)
    made.run()
    failed = [trial for trial in made.study.trials if "error" in trial.user_attrs]
    assert failed
    assert {trial.state for trial in failed} == {TrialState.PRUNED}
    assert failed[0].user_attrs["error"] == "UserError: the loss is not finite"
    assert made.best().value == 0.05


def test_defaults_that_fail_end_the_search_and_are_tried_again(search):
    def broken(lr):
        raise UserError("no data")

    with pytest.raises(UserError, match="no data"):
        search(worth=broken).run()
    made = search(trials=2)
    made.run()
    assert states(made) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "defaults" in made.study.trials[1].user_attrs


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_does_not_count(stop, search):
    done = []

    def worth(lr):
        if len(done) == 2:
            raise stop
        done.append(lr)
        return lr

    with pytest.raises(stop):
        search(worth=worth, trials=3).run()
    made = search(trials=3)
    made.run()
    assert states(made) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


@pytest.mark.parametrize("reports", [True, False])
def test_a_worker_that_was_held_for_dead_goes_on(reports, search, caplog):
    done = []

    def worth(lr):
        done.append(lr)
        if len(done) == 2:
            made.study.tell(1, state=TrialState.FAIL)  # as another worker would
            if reports:
                raise optuna.exceptions.UpdateFinishedTrialError
        return lr

    made = search(worth=worth, trials=3)
    made.run()
    assert states(made) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "gave up its trial" in caplog.text


def test_another_search_in_the_same_storage_is_refused(search):
    search(trials=1).run()
    with pytest.raises(UserError, match="holds the search of another run or space; choose"):
        search(experiment="y")
    search(trials=1).run()  # and leaves the first as it was


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("/dev/null/study.db", "cannot|Not a directory|File exists"),
        ("{folder}", "search.storage=.*unable to open database file"),
        ("{folder}/text", "search.storage=.*file is not a database"),
        ("nosuch://host/db", "search.storage=nosuch://host/db: "),
    ],
)
def test_a_storage_that_cannot_be_used_is_named(storage, message, search, tmp_path):
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises((UserError, OSError), match=message):
        search(storage=storage.format(folder=tmp_path))


# The command


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
    answer = process.ended(timeout=500)
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    assert "Warning" not in answer.stderr
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def searched(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, ended(start(folder, "search.trials=3"))


def test_a_search_leaves_runs_and_a_summary(searched):
    folder, said = searched
    found = json.loads((folder / "search.json").read_text())
    assert (found["completed"], len(found["trials"])) == (3, 3)
    best, default = found["best"], found["trials"][0]
    assert default["defaults"]
    assert best["val/acc"] >= default["val/acc"]
    for trial in found["trials"]:
        result = json.loads((folder / f"trial_{trial['number']:04d}" / "result.json").read_text())
        assert (result["status"], result["val/acc"]) == ("untested", trial["val/acc"])
        assert not [key for key in result if key.startswith("test/")]
    assert f"{best['val/acc']:.4f}" in said
    assert found["command"] in said


def test_the_printed_command_repeats_the_best(searched, tmp_path):
    found = json.loads((searched[0] / "search.json").read_text())
    python, flag, *command = shlex.split(found["command"])
    assert (python, flag) == ("python", "-m")
    answer = Command(*command, f"hydra.run.dir={tmp_path}").ended()
    assert answer.returncode == 0, answer.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["val/acc"]) == ("completed", found["best"]["val/acc"])
    assert "test/acc" in result


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 400
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_a_killed_search_goes_on_and_keeps_what_is_done(start, tmp_path):
    process = start(tmp_path, "search.trials=1000", "search.heartbeat=1")
    wait_for(tmp_path / "trial_0002" / ".hydra")
    process.send_signal(signal.SIGKILL)
    process.ended()
    kept = tmp_path / "trial_0000" / "result.json"
    before = kept.stat().st_mtime_ns
    ended(start(tmp_path, "search.trials=4", "search.heartbeat=1"))
    assert kept.stat().st_mtime_ns == before
    study = optuna.load_study(study_name="kd", storage=f"sqlite:///{tmp_path / 'study.db'}")
    counted = [trial for trial in study.trials if trial.state != TrialState.FAIL]
    assert [trial.state for trial in counted] == [TrialState.COMPLETE] * len(counted)
    assert len(counted) == 4
    assert len(study.trials) == 5


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
        (["search.trails=5"], "no 'search.trails'.*did you mean 'trials'"),
        (["+search.space={method.alpha:{low:0,high:1}}"], "method=ce has no 'alpha'"),
        (["search.storage=/dev/null/s.db"], "cannot write to /dev/null.*|/dev/null"),
    ],
)
def test_a_mistake_gets_one_message(overrides, message, start, tmp_path):
    said = ended(start(tmp_path, *overrides), code=1)
    assert re.search(f"(?s)error: .*({message})", said), said
    assert not list(tmp_path.glob("trial_*"))


def test_a_missing_optuna_is_named(tmp_path):
    code = (
        "import sys, importlib.util; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda n, *a: None if n == 'optuna' else find(n, *a); "
        f"sys.argv[1:] = ['hydra.run.dir={tmp_path}']; import kd.search; kd.search.main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert answer.returncode == 1
    assert "error: python -m kd.search needs Optuna: pip install -e '.[search]'" in answer.stderr
