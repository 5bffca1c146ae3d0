"""Searches on a real PostgreSQL server: two workers, one of them killed; its password."""

import json
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from postgres import PASSWORD, server
from searches import found, free_search
from test_search import ended, start

from kd.errors import UserError

__all__ = ["start"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    pytest.importorskip("psycopg", reason="there is no psycopg: pip install -e '.[postgres]'")
    with server() as address:
        yield address


@pytest.fixture
def search(tmp_path, monkeypatch, config_path):
    return partial(free_search, tmp_path, monkeypatch)


def test_two_workers_finish_all_trials_when_one_is_killed(start, url, tmp_path):
    shared = (f"search.storage={url}", "search.trials=5", "trainer.max_epochs=3")
    killed = start(tmp_path / "killed", *shared)
    living = start(tmp_path / "living", *shared)
    deadline = time.monotonic() + 100
    while not (running := list(tmp_path.glob("killed/trial_*/checkpoints/last.ckpt"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.ended()
    printed = ended(living)
    summary = json.loads((tmp_path / "living" / "search.json").read_text())
    trials = summary["trials"]
    assert [trial["number"] for trial in trials] == list(range(5))
    assert {trial["status"] for trial in trials} == {"completed"}
    assert len({json.dumps(trial["overrides"]) for trial in trials}) == 5
    for trial in trials:
        result = json.loads(Path(trial["folder"], "result.json").read_text())
        assert (result["status"], result["val/acc"]) == ("untested", trial["val/acc"])
    folders = {*tmp_path.glob("*/trial_*")}
    assert folders == {Path(trial["folder"]) for trial in trials}  # none was run twice
    assert summary["best"]["val/acc"] == max(trial["val/acc"] for trial in trials)
    assert "(resumed)" in printed or all((f.parents[1] / "result.json").exists() for f in running)
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in text for text in [*texts, printed.encode()])


def test_a_search_that_is_stopped_is_the_same_search(search, url, tmp_path, monkeypatch):
    whole = free_search(tmp_path / "whole", monkeypatch, trials=6)
    whole.run()
    done: list[float] = []

    def accuracy(lr):
        done.append(lr)
        if len(done) in (1, 3, 4, 7):
            raise SystemExit
        return 1 - abs(lr - 0.02)

    for _ in range(4):
        with pytest.raises(SystemExit):
            search(accuracy=accuracy, trials=6, storage=url).run()
    made = search(accuracy=accuracy, trials=6, storage=url)
    made.run()
    assert found(made) == found(whole)


def test_two_searches_share_a_server(url, tmp_path, monkeypatch, config_path):
    names = ("x1", "x2")
    made = [
        free_search(tmp_path / n, monkeypatch, identity=n, storage=url, trials=2) for n in names
    ]
    for one in made:
        one.run()
    assert all(len(one.study.trials) == 2 for one in made)


def test_a_wrong_password_is_not_shown(search, url):
    with pytest.raises(UserError, match=r"://kd:\*\*\*@.*password authentication failed") as error:
        search(storage=url.replace(PASSWORD, "wrong-one"))
    assert "wrong-one" not in str(error.value)
