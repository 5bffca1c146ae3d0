"""Notes of the sheet: which net is evaluated, on which data, and on what machine."""

from dataclasses import replace

import pytest
import torch
from finished_runs import finished_run
from small_data import Given, arrays, ready
from support import UNUSED

from kd.deploy.cost.cost import measure_cost
from kd.deploy.evaluation.fits import check_fits
from kd.deploy.evaluation.notes import machine_notes, run_notes, teacher_notes
from kd.deploy.evaluation.sheet import EvaluatedNet
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.training.acquired import AcquiredTeacher


@pytest.fixture
def run(output):
    return FinishedRun(finished_run("ce", output))


def own_notes(run):
    return run_notes(run, "student", run.data, own=True)


def test_a_run_of_one_net_on_its_own_data_has_none(run):
    assert own_notes(run) == []
    assert [*teacher_notes(run, has_embedding=False)] == []


def test_the_other_nets_of_a_run_are_named(run):
    alone = run.result
    run.result = alone | {"mode": "online", "peer1/net": "resnet14", "peer1/test/acc": 0.75}
    (note,) = own_notes(run)
    assert "the first of the nets that were trained together (mode=online)" in note
    assert "peer1 (resnet14) 75.00 %" in note
    run.result = alone | {"test/exit1/acc": 0.5, "test/exit2/acc": 0.25}
    (note,) = own_notes(run)
    assert "predicts with its last exit" in note
    assert "exit1 50.00 %, exit2 25.00 %" in note
    run.result = alone | {"test/ema/acc": 0.5}
    (note,) = own_notes(run)
    assert note.endswith("moving average in its run: ema 50.00 %.")


def acquired(weights_hash, members):
    """A teacher with this origin."""
    return AcquiredTeacher(
        UNUSED, UNUSED, {"acc": 0.5}, "checkpoint", weights_hash, None, 0.0, members
    )


def test_an_ensemble_names_its_members(run):
    run.result["teacher/weights_hash"] = ["a", "b"]
    vars(run)["teacher"] = acquired(["a", "b"], {"resnet8": 0.5, "resnet14": 0.25})
    (note,) = teacher_notes(run, has_embedding=False)
    assert "ensemble of resnet8 50.00 %, resnet14 25.00 %, without an embedding" in note
    assert "those of all members" in note
    (note,) = teacher_notes(run, has_embedding=True)
    assert "embedding" not in note


def test_another_teacher_is_said(run):
    vars(run)["teacher"] = acquired("a", {})
    run.result["teacher/weights_hash"] = "a"
    assert [*teacher_notes(run, True)] == []
    run.result["teacher/weights_hash"] = "b"
    (note,) = teacher_notes(run, True)
    assert note == "The teacher has other weights than the one that taught the student."


def test_a_teacher_that_was_given_is_left_out(run):
    run.result["teacher/source"] = "given"
    (note,) = teacher_notes(run, has_embedding=False)
    assert note.startswith("The teacher is left out: it was given to kd.distil as a module")


def test_a_limited_run_is_said(run):
    run.result["limited"] = ["train", "test"]
    (note,) = own_notes(run)
    assert "a part of its images only (train, test), and its result.json has other" in note


def test_other_data_are_said(run):
    other = ready(Given(arrays(counts=(9,) * 10, test=20, side=12), mean=[0.5], std=[0.5]))
    assert run_notes(run, "baseline", run.data, own=False) == []  # equal data, built once more
    said = " ".join(run_notes(run, "baseline", other, own=False))
    assert "The baseline was trained on digits and is evaluated on another data set" in said
    assert "trained on images of 8 x 8 pixels, and these have 12 x 12" in said
    run.result["data/fingerprint"] = "another split"
    said = " ".join(run_notes(run, "student", run.data, own=False))
    assert "other data of the name digits" in said


def test_images_of_other_channels_are_refused(run):
    coloured = ready(Given(arrays(counts=(9,) * 10, test=20, channels=3)))
    with pytest.raises(UserError, match="run=x: its student takes images of 1 channel, and those"):
        check_fits(run.student, coloured, "run=x")


def test_a_noisy_machine_is_said():
    cost = measure_cost(
        torch.nn.Flatten(), torch.zeros(1, 2, 2), parameters=0, file_bytes=0, weight_bytes=0,
        batches=(1,),
    )  # fmt: skip
    quiet, noisy = (
        replace(cost, latency={1: replace(cost.latency[1], busy=busy, spread=0.0, difference=0.0)})
        for busy in (1.0, 0.5)
    )
    nets = [EvaluatedNet("teacher", "a", {}, quiet), EvaluatedNet("student", "b", {}, noisy)]
    place, warning = machine_notes(nets)
    assert f"with {torch.get_num_threads()} of " in place
    assert "noisy: other work disturbed the latency of student." in warning
    assert len([*machine_notes(nets[:1])]) == 1
