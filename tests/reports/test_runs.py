"""Reading of one run folder: usable runs, trials, damaged files, unfinished runs."""

import json
import re
from typing import Any

import pytest
from omegaconf import OmegaConf
from run_folders import write_run

from kd.config.record import write_record
from kd.io.run_folder import RunFolder
from kd.reports.runs import Excluded, Run, read_run, unfinished_run


def test_a_completed_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path, 0.9, seed=3, knobs={"temperature": 4}))
    assert isinstance(run, Run)
    assert (run.seed, run.result["test/acc"], run.settings["method.temperature"]) == (3, 0.9, 4)
    assert run.overrides == ("method=kd", "trainer=cpu", "seed=3")


@pytest.mark.parametrize("status", ["untested", "pruned"])
def test_trials_of_a_search_are_left_out(status, tmp_path):
    trial = read_run(write_run(tmp_path / "trial_0001", 0.9, status=status))
    assert isinstance(trial, Excluded)
    assert trial.state == "left out"


def test_the_error_of_a_failed_run_is_shown(tmp_path):
    write_run(tmp_path, status="failed", error="UserError: the loss is not finite")
    failed = read_run(tmp_path)
    assert failed == Excluded("failed", tmp_path, "UserError: the loss is not finite")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"status": "comp', "result.json cannot be read"),
        ("[1]", "has no status"),
        ("{}", "has no status"),
        (json.dumps({"status": "completed", "test/acc": 98.0}), "has no method, teacher"),
        (json.dumps({"status": "failed", "checksum": "00000000"}), "its checksum differs"),
    ],
)
def test_an_unusable_result_is_broken(text, why, tmp_path):
    (tmp_path / "result.json").write_text(text)
    broken = read_run(tmp_path)
    assert isinstance(broken, Excluded)
    assert broken.state == "broken"
    assert why in broken.why


@pytest.mark.parametrize("accuracy", [98.0, float("nan"), -0.1, "0.9"])
def test_an_accuracy_outside_0_to_1_is_broken(accuracy, tmp_path):
    broken = read_run(write_run(tmp_path, accuracy))
    assert isinstance(broken, Excluded)
    assert (broken.state, broken.why) == (
        "broken",
        f"test/acc={accuracy!r} is not a fraction in [0, 1]",
    )


NO_ACCURACIES: list[Any] = [98.0, -5, 1e308, True, [1], "0.9", {}, float("inf")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("test/acc", value) for value in NO_ACCURACIES),
        *(("val/acc", value) for value in NO_ACCURACIES),
        *(("teacher/test/acc", 99), ("test/ece", -0.1), ("test/agreement", 1.5)),
        *(("test/acc_per_class", [0.5, 1e308]), ("peer1/test/acc", 95.0), ("test/ema/acc", -1)),
        *(("student/params", -5), ("student/params", 2**60), ("fit_seconds", 1e308)),
        *(("images_per_second", -1.0), ("teacher_forwards", 2.5), ("test/nll", -1.0)),
    ],
)
def test_a_value_that_no_run_can_have_is_broken(key, value, tmp_path):
    broken = read_run(write_run(tmp_path, 0.9, **{key: value}))
    assert isinstance(broken, Excluded)
    assert broken.state == "broken"
    assert re.match(rf"{key}=.* is not (a fraction|in|of type)", broken.why)
    assert len(broken.why) < 150


def test_the_likelihood_of_a_diverged_student_is_broken(tmp_path):
    broken = read_run(write_run(tmp_path, 0.9, **{"test/nll": float("nan")}))
    assert isinstance(broken, Excluded)
    assert broken.why == "test/nll is not a number (NaN), as after training that diverged"


def test_an_infinite_likelihood_is_read(tmp_path):
    assert isinstance(read_run(write_run(tmp_path, 0.9, **{"test/nll": float("inf")})), Run)


@pytest.mark.parametrize("content", [b"a: [", b"text", b"\xff"])
def test_a_damaged_command_line_is_reported(content, tmp_path):
    for name, accuracy in (("finished", 0.9), ("running", None)):
        write_run(tmp_path / name, accuracy)
        RunFolder(tmp_path / name).overrides.write_bytes(content)
    broken, running = read_run(tmp_path / "finished"), unfinished_run(tmp_path / "running")
    assert isinstance(broken, Excluded)
    assert (broken.state, running.state) == ("broken", "unfinished")
    for excluded in (broken, running):
        assert re.search("overrides.yaml (is no|cannot be read)", excluded.why)


def test_long_overrides_are_read_in_full(tmp_path):
    # YAML writers wrap long scalars.
    long = "method.taps=[" + ", ".join(f"stage{n}" for n in range(40)) + "]"
    write_run(tmp_path, 0.9)
    write_record(tmp_path, OmegaConf.create(), ["seed=1", long])
    run = read_run(tmp_path)
    assert isinstance(run, Run)
    assert run.overrides == ("seed=1", long)


def test_an_unfinished_run_shows_its_command_line(tmp_path):
    unfinished = unfinished_run(write_run(tmp_path))
    assert unfinished.state == "unfinished"
    assert "last file written 0 min ago; method=kd trainer=cpu" in unfinished.why
