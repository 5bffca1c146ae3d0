"""The command line as a user runs it: results, sweeps, mistakes, interruptions."""

import csv
import json
import pickle
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import Command
from conftest import TINY
from safetensors.torch import load_file

from kd.io.checksums import with_checksum

STABLE_KEYS = {
    *("status", "method", "teacher", "student", "data", "mode", "seed", "config_hash"),
    *("git_commit", "test/acc", "val/acc", "teacher/test/acc", "test/agreement", "test/ece"),
    *("test/nll", "student/params", "teacher/params", "compression", "epochs", "fit_seconds"),
    *("images_per_second", "teacher_forwards", "versions"),
}
SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5")


def results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.fixture(scope="module")
def first_run(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    answer = train(*SMALL, f"hydra.run.dir={folder}")
    assert answer.returncode == 0, answer.stderr
    return folder, answer


def test_a_run_writes_all_its_files_to_its_folder(first_run):
    folder, answer = first_run
    (result,) = results(folder)
    assert not STABLE_KEYS - result.keys()
    assert result["status"] == "completed"
    assert result["teacher_forwards"] > 0
    ratio = result["teacher/params"] / result["student/params"]
    assert result["compression"] == pytest.approx(ratio, abs=1e-3)
    assert result["epochs"] == 1
    weights = load_file(folder / "student.safetensors")
    assert not [key for key in weights if key.startswith(("student.", "teacher.", "objectives."))]
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "csv/metrics.csv"):
        assert (folder / name).is_file()
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / ".hydra" / "config.yaml").is_file()
    assert f"{result['test/acc']:.4f}" in answer.stdout
    assert "is not in" in answer.stdout  # a line says that the teacher is trained now


def test_no_warning_is_printed(first_run):
    assert "Warning" not in first_run[1].stderr
    assert "litlogger" not in first_run[1].stdout + first_run[1].stderr


def test_tensorboard_has_scalars_and_hyperparameters(first_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(first_run[0])).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {"train/loss", "train/hard", "train/soft", "val/acc", "hp/val_acc"}
    hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for name in (b"temperature", b"alpha", b"method"):
        assert name in hparams


# One method for each kind of input: labels, logits, one stage (in a stage of training of its own),
# the embedding with the images' positions, the teacher's classifier, all stages. All methods run
# in this way in tests/objectives/test_net_families.py, which is slow.
KINDS = ("ce", "kd", "fitnet", "crd", "simkd", "fsp")


@pytest.mark.slow
def test_every_kind_of_method_runs_and_all_share_one_teacher(train, first_run, tmp_path):
    # FSP pairs nets with different channels only if it projects them.
    jobs = [
        [f"method={','.join(method for method in KINDS if method != 'fsp')}"],
        ["method=fsp", "method.variant=project", "hydra.sweep.subdir=fsp"],
    ]
    for job in jobs:
        answer = train("-m", *job, *SMALL, f"hydra.sweep.dir={tmp_path}")
        assert answer.returncode == 0, answer.stderr
        assert "training it now" not in answer.stdout
    found = results(tmp_path)
    assert [r["status"] for r in found] == ["completed"] * len(KINDS)
    assert sorted(r["method"] for r in found) == sorted(KINDS)
    assert {r["teacher"] for r in found if r["method"] != "ce"} == {"resnet8"}
    assert {r["teacher/source"] for r in found if r["method"] != "ce"} == {"reused"}
    names = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len(names) == len(KINDS)
    assert not [name for name in names if "=" in name or "," in name]


def test_a_seed_gives_every_method_the_same_initialisation(train, tmp_path):
    """With lr=0 the final weights are the initial ones."""
    for method in ("ce", "fitnet"):
        answer = train(
            f"method={method}", *SMALL, "optimizer.lr=0", f"hydra.run.dir={tmp_path / method}"
        )
        assert answer.returncode == 0, answer.stderr
    ours, theirs = (load_file(tmp_path / m / "student.safetensors") for m in ("ce", "fitnet"))
    for key, value in ours.items():
        if "running" not in key and "num_batches" not in key:
            assert value.equal(theirs[key]), key


def test_a_run_folder_serves_as_a_teacher(train, first_run, tmp_path):
    answer = train(
        "teacher=resnet8", "teacher.net.width=0.5", "student=resnet8", f"hydra.run.dir={tmp_path}",
        f"teacher.checkpoint={first_run[0]}",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    (result,), (teacher,) = results(tmp_path), results(first_run[0])
    assert result["teacher/source"] == "checkpoint"
    assert result["teacher/test/acc"] == pytest.approx(teacher["test/acc"], abs=1e-4)
    assert result["teacher/params"] == teacher["student/params"]


def test_a_teacher_that_changed_since_is_refused(train, output, tmp_path):
    arguments = (*SMALL, "teacher.training.seed=5")
    assert train(*arguments, f"hydra.run.dir={tmp_path / 'a'}").returncode == 0
    (record,) = [
        path
        for path in (output / "teachers").glob("*/result.json")
        if json.loads(path.read_text())["seed"] == 5
    ]
    content = json.loads(record.read_text())
    record.write_text(json.dumps(with_checksum(content | {"test/acc": content["test/acc"] + 0.1})))
    answer = train(*arguments, f"hydra.run.dir={tmp_path / 'b'}")
    assert answer.returncode == 1
    assert "was recorded when it was trained" in answer.stderr


MISTAKES = {
    "unknown method": (["method=kdd"], "method=kdd.*did you mean 'kd'.*valid: ab, abkd, afd, at"),
    "unknown model": (["student=resnet21"], "student=resnet21.*valid: bert_mini, "),
    "unknown data": (["data=minst"], "data=minst.*did you mean 'mnist'.*valid: cifar10"),
    "unknown key": (
        ["trainer.max_epoch=3"],
        "no 'trainer.max_epoch'.*did you mean 'trainer.max_epochs'",
    ),
    "key elsewhere": (["accelerator=gpu"], "no 'accelerator'; did you mean 'trainer.accelerator'"),
    "no such knob": (["method=ce", "method.alpha=0.5"], "method=ce has no 'alpha'; .*knobs: none"),
    "knobs listed": (["method=logit_mse", "method.alpha=1"], "its knobs: beta"),
    "null option": (["method=null"], "a group needs an option, not null"),
    "batch of one": (
        ["data.batch_size=1", "student=resnet18", "student.net.width=0.1", "method=ce"],
        "data.batch_size=1: batch norm in these nets needs at least 2 images",
    ),
    "unknown tap": (["method=fitnet", "method.student_tap=stag1"], "did you mean 'stage1'"),
    "temperature": (["method.temperature=0"], "method.temperature=0: must be a number > 0"),
    "no accelerator": (
        ["trainer=mps"],
        "trainer.accelerator=mps: not on this machine; it has auto, cpu",
    ),
    "missing checkpoint": (["teacher.checkpoint=no/where.pt"], "no/where.pt does not exist"),
    "no run to resume": (["resume=no/where"], "there is no checkpoint no/where"),
    "unwritable folder": (["hydra.run.dir=/dev/null/run"], "cannot write to /dev/null/run"),
    "bad depth": (["student.net.depth=9"], "student=resnet8: depth must be 6n"),
    "too small": (["student=vgg16"], "student=vgg16: .*8.*32"),
    "missing folder": (["data=image_folder", "data.root=no/where"], "no/where"),
    "method on an mlp": (["method=at", "student=mlp800"], "needs maps .*the student has"),
    "no such cache mode": (["teacher.cache=offf"], "cache.mode=offf: .*did you mean 'off'"),
    "cache too small": (
        ["teacher.cache=on", "teacher.cache.max_gb=0.000001"],
        "teacher.cache=on: .*GB for 1 views of each image > teacher.cache.max_gb=1e-06",
    ),
    "cache of no views": (
        ["teacher.cache=on", "data/augment=mixup"],
        "teacher.cache=on: MixUp has no finite set of views",
    ),
    "too many views": (["data.views=10"], "views must be in 1 … 9 with Shift"),
    "unknown compile mode": (["compile=fast"], "compile=fast: there is no such mode"),
    "bad precision": (["trainer.precision=17"], "trainer: Precision '?17'? is invalid"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_message(name, train, first_run, tmp_path):
    arguments, message = MISTAKES[name]
    if "hydra.run.dir" not in arguments[0]:
        arguments = [*arguments, f"hydra.run.dir={tmp_path / 'run'}"]
    answer = train("teacher=resnet8", *arguments)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    lines = answer.stderr.strip().split("\nerror: ")[-1]
    assert re.search(message, lines, re.DOTALL), answer.stderr
    # A result that was written says that the run failed, and why.
    for result in results(tmp_path):
        assert result["status"] == "failed"
        assert result["error"]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_diverging_loss_names_step_term_and_remedies(train, first_run, tmp_path):
    answer = train(*SMALL, "optimizer.lr=1e38", "scheduler.warmup=0", f"hydra.run.dir={tmp_path}")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "the loss is not finite: 'hard' (step 2), 'soft' (step 2). Lower" in answer.stderr
    (result,) = results(tmp_path)
    assert result["status"] == "failed"
    assert "not finite" in result["error"]


@pytest.mark.slow
def test_the_same_sweep_again_runs_what_is_missing(train, first_run, tmp_path):
    command = ["-m", "seed=0,1", *SMALL, f"hydra.sweep.dir={tmp_path}"]
    assert train(*command).returncode == 0
    kept, broken = sorted(tmp_path.rglob("result.json"))
    before = kept.stat().st_mtime_ns, json.loads(broken.read_text())["test/acc"]
    broken.write_text(json.dumps({"status": "failed", "error": "killed"}))
    again = train(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to do") == 1
    assert (kept.stat().st_mtime_ns, json.loads(broken.read_text())["test/acc"]) == before

    other = train(*command, "method.temperature=2")
    assert other.returncode == 1
    assert "holds a finished run of another configuration" in other.stderr
    assert kept.stat().st_mtime_ns == before[0]


def test_a_failing_job_does_not_stop_the_sweep(train, first_run, tmp_path):
    answer = train(
        "-m", "optimizer.lr=0.1,1e38", "seed=0,1", "scheduler.warmup=0", *SMALL,
        f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert answer.returncode == 1
    statuses = sorted(result["status"] for result in results(tmp_path))
    assert statuses == ["completed", "completed", "failed", "failed"]


def test_the_cache_is_listed_and_cleared(first_run, output):
    def cache(*arguments):
        return Command("kd.cache", f"paths.output={output}", *arguments).ended()

    answer = cache("clear=nothing")
    assert answer.returncode == 1
    assert "clear=nothing" in answer.stderr
    assert "valid: resnet" in answer.stderr
    assert cache().stdout.count("float16") >= 1
    listed = [path.name for path in (output / "cache").iterdir() if path.is_dir()]
    assert cache(f"clear={listed[0]}").returncode == 0
    assert not (output / "cache" / listed[0]).exists()
    assert not (output / "runs" / "kd.cache").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_can_be_resumed(number, code, train, first_run, output, tmp_path):
    long = [*(a for a in TINY if a != "debug=fast"), *SMALL, "method=ce"]
    command = [f"paths.output={output}", *long]
    command += [f"hydra.run.dir={tmp_path}", "trainer.max_epochs=100000"]
    process = Command("kd.train", *command)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    answer = process.ended(timeout=60)
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    assert results(tmp_path)[0]["error"] == "interrupted"

    epochs = epoch_of(tmp_path) + 2
    # The folder and a changed setting are enough.
    answer = train(f"resume={tmp_path}", f"trainer.max_epochs={epochs}", tiny=False)
    assert answer.returncode == 0, answer.stderr
    result = results(tmp_path)[0]
    assert (result["status"], result["epochs"]) == ("completed", epochs)
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        seen = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert seen == list(range(1, epochs + 1))


def epoch_of(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]


def test_a_checkpoint_of_another_run_is_not_overwritten(train, first_run, output, tmp_path):
    shutil.copytree(first_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "result.json").unlink()
    answer = train(*SMALL, f"hydra.run.dir={tmp_path}", "optimizer.lr=0.3")
    assert answer.returncode == 1
    assert "last.ckpt belongs to a run with another configuration" in answer.stderr
    assert "Traceback" not in answer.stderr
    again = train(f"resume={tmp_path}", tiny=False)
    assert again.returncode == 0, again.stderr
    assert results(tmp_path)[0]["test/acc"] == results(first_run[0])[0]["test/acc"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"PK\x03\x04 half", "is a damaged zip archive"),
        (pickle.dumps(print), "is no checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_named(content, reason, train, first_run, tmp_path):
    shutil.copytree(first_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "result.json").unlink()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(content)
    answer = train(f"resume={tmp_path}", tiny=False)
    assert answer.returncode == 1
    assert f"{tmp_path}/checkpoints/last.ckpt" in answer.stderr
    assert reason in answer.stderr
    assert f"delete {tmp_path}/checkpoints to start over" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_a_file_that_is_no_checkpoint_of_a_run_is_named(train, first_run, tmp_path):
    """Weights alone, checkpoints without a part that kd writes, and one of another optimizer."""
    folder, _ = first_run
    whole = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    for part in ("plan", "optimizer", "callbacks"):
        torch.save({k: v for k, v in whole.items() if k != part}, tmp_path / f"{part}.ckpt")
    files = [folder / "student.safetensors", *sorted(tmp_path.glob("*.ckpt"))]
    for number, file in enumerate(files):
        place = f"hydra.run.dir={tmp_path / str(number)}"
        answer = train(*SMALL, f"resume={file}", place)
        assert answer.returncode == 1
        assert f"resume={file}: not a checkpoint of a run" in answer.stderr
        assert "Traceback" not in answer.stderr
    place = f"hydra.run.dir={tmp_path / 'adam'}"
    answer = train(*SMALL, f"resume={folder}/checkpoints/last.ckpt", place, "optimizer=adam")
    assert answer.returncode == 1
    assert "choose the same optimizer" in answer.stderr


def test_an_environment_variable_shows_the_traceback(train, tmp_path):
    wrong = "optimizer.lr=-1", f"hydra.run.dir={tmp_path}"
    assert "Traceback" not in train(*wrong).stderr
    answer = train(*wrong, HYDRA_FULL_ERROR="1")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_help_lists_the_options(train):
    answer = train("--help", tiny=False)
    assert answer.returncode == 0
    groups = ("method: ab, abkd, afd,", "student: bert_mini,", "data: cifar10,", "trainer: auto,")
    for group in groups:
        assert group in answer.stdout
