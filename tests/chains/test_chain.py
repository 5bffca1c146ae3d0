"""Chains: each stage teaches the next, and each is an ordinary run."""

import json

import pytest
from chain_runs import (
    SMALL,
    RecordTeachers,
    configured,
    equal_weights,
    parameters,
    start_chain,
)
from safetensors.torch import load_file

import kd.training.run
from kd.errors import UserError
from kd.io.locks import exclusive_folder
from kd.training.teacher_run import teacher_run

STAGES = ["stages=[resnet8,mlp800,resnet8]", *SMALL]


@pytest.fixture(scope="module")
def finished(output, tmp_path_factory):
    """A chain of two stages, and the teachers that it had."""
    folder = tmp_path_factory.mktemp("finished") / "chain"
    with pytest.MonkeyPatch.context() as patch:
        teachers = RecordTeachers(patch)
        start_chain(output, folder, *STAGES)
    return folder, teachers.seen


def test_every_student_teaches_the_next(finished, output):
    folder, teachers = finished
    found = json.loads((folder / "chain.json").read_text())
    folders = [folder / run["stage"] for run in found["runs"]]
    assert [folder.name for folder in folders] == ["1_mlp800", "2_resnet8"]
    registered = [
        path / "student.safetensors"
        for path in (output / "teachers").glob("resnet8-*")
        if json.loads((path / "result.json").read_text())["seed"] == 2
    ]
    files = [*registered, folders[0] / "student.safetensors"]
    for (_, weights), file in zip(teachers, files, strict=True):
        assert equal_weights(weights, load_file(file))
    assert [source for source, _ in teachers] == ["trained now", "checkpoint"]
    assert [run["seed"] for run in found["runs"]] == [1, 0]


def test_the_summary_has_the_last_accuracy_and_the_sum_of_costs(finished):
    folder, _ = finished
    found = json.loads((folder / "chain.json").read_text())
    assert (found["status"], found["seed"]) == ("completed", 0)
    assert found["test/acc"] == found["runs"][-1]["test/acc"]
    seconds = sum(run["fit_seconds"] for run in found["runs"])
    assert found["fit_seconds"] == pytest.approx(seconds)
    for run in found["runs"]:
        for name in ("result.json", ".hydra/config.yaml", "checkpoints/best.ckpt"):
            assert (folder / run["stage"] / name).is_file()


@pytest.mark.slow
def test_the_command_prints_every_stage(train, tmp_path):
    completed = train(*STAGES, f"hydra.run.dir={tmp_path}", command="kd.chain")
    assert completed.returncode == 0, completed.stderr
    found = json.loads((tmp_path / "chain.json").read_text())
    rows = [line.split("│")[1:-1] for line in completed.stdout.split("\n") if line.startswith("│")]
    shown = [[cell.strip() for cell in row] for row in rows]
    assert [row[:3] for row in shown] == [
        ["0", "resnet8", "trained now"],
        ["1", "mlp800", "resnet8"],
        ["2", "resnet8", "mlp800"],
    ]
    accuracies = [found["runs"][0]["teacher/test/acc"], *(r["test/acc"] for r in found["runs"])]
    assert [row[3] for row in shown] == [f"{accuracy:.4f}" for accuracy in accuracies]


def test_a_stage_equals_a_single_run_of_its_config(finished, output, tmp_path):
    stage = finished[0] / "1_mlp800"
    cfg = configured(output, tmp_path, "student=mlp800", "seed=1", "teacher.training.seed=2")
    result = kd.training.run.run(cfg, tmp_path)
    ours, theirs = (load_file(f / "student.safetensors") for f in (stage, tmp_path))
    assert equal_weights(ours, theirs)
    recorded = json.loads((stage / "result.json").read_text())
    assert result["config_hash"] == recorded["config_hash"]


def test_the_same_chain_in_another_folder_is_the_same_experiment(finished, output, tmp_path):
    start_chain(output, tmp_path, *STAGES)
    for name in ("1_mlp800", "2_resnet8"):
        ours, theirs = (
            json.loads((folder / name / "result.json").read_text())
            for folder in (finished[0], tmp_path)
        )
        for key in ("config_hash", "recipe_hash", "teacher/weights_hash"):
            assert ours[key] == theirs[key], key


def test_an_error_while_running_names_the_stage(output, tmp_path):
    """A tap of the right name and the wrong shape is found only once the nets exist."""
    with pytest.raises(UserError, match=r"stage 1_mlp800: attention transfer needs maps"):
        start_chain(output, tmp_path, "method=at", "stages=[resnet8,mlp800,resnet8]")
    found = json.loads((tmp_path / "chain.json").read_text())
    assert found["error"].startswith("stage 1_mlp800: UserError: attention transfer")
    assert [run["status"] for run in found["runs"]] == ["failed", "missing"]


def test_a_folder_in_use_by_another_process_is_refused(output, tmp_path):
    with exclusive_folder(tmp_path), pytest.raises(UserError, match="another process"):
        start_chain(output, tmp_path, *STAGES)
    assert not (tmp_path / "chain.json").exists()


# Students that start from given weights


@pytest.mark.parametrize("file", ["", "checkpoints/best.ckpt", "student.safetensors"])
def test_a_student_starts_from_given_weights(file, finished, output, tmp_path):
    start = finished[0] / "2_resnet8"
    given = f"student.checkpoint={start / file}"
    cfg = configured(output, tmp_path, given, "optimizer.lr=0", "method=ce")
    kd.training.run.run(cfg, tmp_path)
    assert equal_weights(parameters(tmp_path), parameters(start))


def test_the_teacher_does_not_start_from_the_students_weights(output, tmp_path):
    cfg = configured(output, tmp_path, "student.checkpoint=somewhere")
    assert "checkpoint" not in teacher_run(cfg, tmp_path).student


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (
            "{chain}/1_mlp800",
            "does not fit the net:.*The folder holds a student=mlp800 trained on",
        ),
        ("no/where", "student.checkpoint=no/where: there is no such file"),
        ("3", "student.checkpoint=3: must be a path"),
    ],
)
def test_weights_that_do_not_fit_are_refused(checkpoint, message, finished, output, tmp_path):
    given = f"student.checkpoint={checkpoint.format(chain=finished[0])}"
    with pytest.raises(UserError, match=f"(?s){message}"):
        kd.training.run.run(configured(output, tmp_path, given, "method=ce"), tmp_path)


# Routes


def test_a_route_passes_through_the_teachers_epochs(output, tmp_path, monkeypatch):
    """Each stage has the teacher of its epoch and starts from the student before it."""
    nets = ["teacher=resnet14", "student=resnet8", *SMALL, "teacher.training.seed=7"]
    teachers = RecordTeachers(monkeypatch)
    found = start_chain(output, tmp_path, "route=[1,2]", *nets)
    (kept,) = (output / "teachers").glob("resnet14-*/epochs")
    for (_, weights), epoch in zip(teachers.seen, (1, 2), strict=True):
        assert equal_weights(weights, load_file(kept / f"epoch_000{epoch}.safetensors"))
    assert [run["teacher/epoch"] for run in found["runs"]] == [1, 2]
    assert [run["teacher/source"] for run in found["runs"]] == ["trained now", "reused"]
    still = tmp_path / "still"
    start_chain(output, still, "route=[1,2]", *nets, "optimizer.lr=0")  # lr 0 keeps the weights
    assert equal_weights(parameters(still / "1_epoch1"), parameters(still / "2_epoch2"))
