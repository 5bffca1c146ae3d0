"""Searches with runs that cost nothing: counting, failures, interruptions, shared storage."""

from pathlib import Path

import optuna
import pytest
from hydra import compose
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from searches import RATE, SETTINGS

from kd.errors import UserError
from kd.tuning.study import Search
from kd.tuning.trial_configs import default_values


@pytest.fixture
def search(tmp_path, monkeypatch, config_path):
    """Make a Search whose runs have accuracy 1 − |lr − 0.02|, or `accuracy` of their lr."""

    def make(accuracy=lambda lr: 1 - abs(lr - 0.02), space=RATE, experiment="x", **settings):
        def fake(cfg, folder, callbacks, test):
            assert not test
            assert folder == Path(cfg.paths.run)
            return {"val/acc": accuracy(cfg.optimizer.lr), "best_epoch": 1}

        monkeypatch.setattr("kd.tuning.trial.run", fake)
        base = ["method=ce", "paths.run=run"]
        return Search(
            space,
            default_values(space, base),
            lambda overrides: compose("train", [*base, *overrides]),
            experiment,
            tmp_path,
            SETTINGS | settings,
        )

    return make


def states(made: Search) -> list[str]:
    return [trial.state.name for trial in made.study.trials]


def test_the_first_trial_has_the_defaults_and_the_best_is_no_worse(search):
    made = search()
    made.run()
    first = made.study.trials[0]
    assert (first.value, first.user_attrs["overrides"]) == (0.97, [])
    assert first.params == {"optimizer.lr": 0.05}
    assert made.best().value >= first.value
    assert states(made) == ["COMPLETE"] * 6


def test_of_equal_trials_the_first_is_best(search):
    made = search(accuracy=lambda lr: 0.5)
    made.run()
    assert made.best().number == 0


def test_defaults_outside_the_space_are_tried_as_well(search):
    made = search(space={"optimizer.lr": FloatDistribution(0.1, 0.3)}, trials=3)
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


def test_a_failing_trial_is_pruned_and_the_search_continues(search):
    def accuracy(lr):
        if lr > 0.1:
            raise UserError("the loss is not finite")
        return lr

    rates = CategoricalDistribution((0.05, 0.2, 0.02))
    made = search(accuracy=accuracy, space={"optimizer.lr": rates}, trials=6)
    made.run()
    failed = [trial for trial in made.study.trials if "error" in trial.user_attrs]
    assert failed
    assert {trial.state for trial in failed} == {TrialState.PRUNED}
    assert failed[0].user_attrs["error"] == "UserError: the loss is not finite"
    assert made.best().value == 0.05


def test_failing_defaults_end_the_search_and_are_tried_again(search):
    def broken(lr):
        raise UserError("no data")

    with pytest.raises(UserError, match="no data"):
        search(accuracy=broken).run()
    made = search(trials=2)
    made.run()
    assert states(made) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "defaults" in made.study.trials[1].user_attrs


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_does_not_count(stop, search):
    done: list[float] = []

    def accuracy(lr):
        if len(done) == 2:
            raise stop
        done.append(lr)
        return lr

    with pytest.raises(stop):
        search(accuracy=accuracy, trials=3).run()
    made = search(trials=3)
    made.run()
    assert states(made) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


@pytest.mark.parametrize("while_training", [True, False])
def test_a_worker_whose_trial_was_declared_dead_continues(while_training, search, caplog):
    """This also fails when Optuna changes the message by which the case is recognised."""
    done: list[float] = []

    def accuracy(lr):
        done.append(lr)
        if len(done) == 2:
            made.study.tell(1, state=TrialState.FAIL)  # as another worker would
            if while_training:
                raise optuna.exceptions.UpdateFinishedTrialError
        return lr

    made = search(accuracy=accuracy, trials=3)
    made.run()
    assert states(made) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "declared its trial dead" in caplog.text


def test_another_search_in_the_same_storage_is_refused(search):
    search(trials=1).run()
    with pytest.raises(UserError, match="holds the search of another config or space; choose"):
        search(experiment="y")
    search(trials=1).run()  # the first is still the owner


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("/dev/null/study.db", "cannot|Not a directory|File exists"),
        ("{folder}", "search.storage=.*unable to open database file"),
        ("{folder}/text", "search.storage=.*file is not a database"),
        ("nosuch://host/db", "search.storage=nosuch://host/db: "),
    ],
)
def test_an_unusable_storage_is_named(storage, message, search, tmp_path):
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises((UserError, OSError), match=message):
        search(storage=storage.format(folder=tmp_path))
