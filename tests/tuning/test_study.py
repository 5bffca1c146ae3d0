"""Searches with runs that cost nothing: counting, failures, interruptions, shared storage."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from searches import found, free_search, near_two_percent

from kd.errors import UserError
from kd.tuning.sampler import suggest
from kd.tuning.study import Search


@pytest.fixture
def search(tmp_path, monkeypatch, config_path):
    """Make a search without training, in this test's folder."""
    return partial(free_search, tmp_path, monkeypatch)


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


@pytest.mark.slow
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
    assert states(made)[:2] == ["COMPLETE", "COMPLETE"]
    assert "defaults" in made.study.trials[0].user_attrs


def stopped(search, stop, after, **settings):
    """Start a search that ends with an exception in its trial number `after`."""
    done: list[float] = []

    def accuracy(lr):
        if len(done) == after:
            raise stop
        done.append(lr)
        return near_two_percent(lr)

    made = search(accuracy=accuracy, **settings)
    with pytest.raises(stop):
        made.run()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, OSError])
def test_a_search_that_is_stopped_five_times_is_the_same_search(
    stop, search, tmp_path, monkeypatch
):
    whole = free_search(tmp_path / "whole", monkeypatch, trials=14)
    whole.run()
    for after in (1, 0, 4, 0, 2):
        stopped(search, stop, after, trials=14)
    made = search(trials=14)
    made.run()
    assert found(made) == found(whole)
    assert made.best().number == whole.best().number


@pytest.mark.slow
@pytest.mark.parametrize("values", [1, 2])
def test_a_proposal_that_was_stored_in_part_is_completed(values, search, tmp_path, monkeypatch):
    """A process can be killed between two values of a trial."""
    space = {
        "optimizer.lr": FloatDistribution(0.001, 0.3),
        "optimizer.momentum": FloatDistribution(0, 0.9),
        "optimizer.weight_decay": FloatDistribution(0, 0.1),
    }
    whole = free_search(tmp_path / "whole", monkeypatch, space=space, trials=12)
    whole.run()
    drawn: list[str] = []

    def kill(trial, key, part):
        if len(drawn) == values:
            raise SystemExit
        if trial.number == 11:
            drawn.append(key)
        return suggest(trial, key, part)

    with monkeypatch.context() as patched:
        patched.setattr("kd.tuning.study.suggest", kill)
        with pytest.raises(SystemExit):
            search(space=space, trials=12).run()
    made = search(space=space, trials=12)
    assert len(made.study.trials[11].params) == values
    made.run()
    assert found(made) == found(whole)


def test_a_trial_of_a_worker_that_holds_its_lock_is_left_alone(search, tmp_path, caplog):
    made = search(trials=2)
    made.queue.fill()
    taken = made.queue.claim()
    assert taken.number == 0
    other = search(trials=2)
    dead = other.queue.liveness.is_dead(other.study.trials[0])
    assert dead is False
    assert other.queue.claim().number == 1


def silent(made: Search, number: int, **owner: str) -> None:
    """Make the owner of a trial a worker on another machine."""
    trial = made.study.trials[number]
    content = trial.user_attrs["owner"] | {"machine": "another"} | owner
    made.backend.set_trial_user_attr(made.queue.id_of(trial), "owner", content)


def test_a_worker_on_another_machine_is_dead_after_six_heartbeats(search, monkeypatch):
    made = search(trials=2)
    made.queue.fill()
    made.queue.claim()
    silent(made, 0, worker="other")
    now = [0.0]
    monkeypatch.setattr("kd.tuning.worker.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "kd.tuning.queue.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    other = search(trials=2)
    claimed = other.queue.claim()  # not trial 1, which would be proposed without trial 0
    assert (claimed.number, 6 < now[0] <= 8) == (0, True)
    assert other.queue.is_ours(claimed)
    assert not made.queue.is_ours(claimed)


def test_a_heartbeat_shows_that_a_worker_on_another_machine_lives(search, monkeypatch):
    made = search(trials=2)
    made.queue.fill()
    first = made.queue.claim()
    silent(made, 0, worker="other")
    other = search(trials=2)

    def beat(seconds):
        made.backend.set_trial_user_attr(made.queue.id_of(first), "heartbeat", "1")

    monkeypatch.setattr("kd.tuning.queue.time.sleep", beat)
    assert other.queue.claim().number == 1


def test_a_worker_whose_trial_was_taken_continues_with_the_next(search, caplog):
    done: list[float] = []

    def accuracy(lr):
        done.append(lr)
        if len(done) == 2:
            silent(made, 1, worker="other")
            monotonic = made.queue.liveness
            monotonic.timeout = -1  # the other worker dies at once
        return lr

    made = search(accuracy=accuracy, trials=3)
    made.run()
    assert states(made) == ["COMPLETE"] * 3
    assert len(done) == 4
    assert "trial 1: another worker missed this worker's heartbeats" in caplog.text


def test_fewer_trials_than_there_are_end_the_search(search):
    stopped(search, SystemExit, 3, trials=6)
    made = search(trials=2)
    made.run()
    assert states(made) == ["COMPLETE", "COMPLETE", "COMPLETE", "RUNNING", "WAITING", "WAITING"]


def test_a_full_disk_ends_the_search_and_not_only_the_trial(search):
    made = stopped(search, OSError, 2)
    assert [t.user_attrs.get("error") for t in made.study.trials] == [None] * 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"identity": "y"}, "holds the search of another config"),
        ({"storage": "{folder}/other.db"}, "search.storage was study.db and is other.db"),
    ],
)
@pytest.mark.slow
def test_another_search_in_the_same_folder_is_refused(changed, message, search, tmp_path):
    search(trials=1).run()
    changed = {key: value.format(folder=tmp_path) for key, value in changed.items()}
    with pytest.raises(UserError, match=message):
        search(**changed)
    search(trials=1).run()  # the first is still the owner


def test_another_search_in_the_same_file_is_refused(search, tmp_path, monkeypatch):
    storage = str(tmp_path / "both.db")
    search(trials=1, storage=storage).run()
    with pytest.raises(UserError, match="holds the search of another config or space; choose"):
        free_search(tmp_path / "b", monkeypatch, identity="y", storage=storage)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE trial_user_attributes SET value_json = CAST(x'22f422' AS TEXT)", "Could not"),
        # SQLite quotes the name in its message, which Python then cannot decode.
        ("UPDATE sqlite_master SET name = CAST(x'f4' AS TEXT), sql = 'x'", "can't decode"),
    ],
)
@pytest.mark.slow
def test_a_damaged_storage_is_named(damage, message, search, tmp_path):
    file = tmp_path / "study.db"
    search(storage=str(file)).run()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(damage)
    with pytest.raises(UserError, match=rf"search.storage=.*study.db: .*{message}"):
        search(storage=str(file)).run()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("/dev/null/study.db", "cannot|Not a directory|File exists"),
        ("{folder}", "search.storage=.* is a folder, not a file"),
        ("{folder}/text", "search.storage=.*file is not a database"),
        ("nosuch://host/db", "search.storage=nosuch://host/db: "),
    ],
)
def test_an_unusable_storage_is_named(storage, message, search, tmp_path):
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises((UserError, OSError), match=message):
        search(storage=storage.format(folder=tmp_path))
