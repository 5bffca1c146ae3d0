"""Runs within this process: selection on validation, and resuming bit for bit."""

import csv
import signal
from itertools import product
from typing import ClassVar

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from support import Losses, configured, present

from kd.data.digits import Digits
from kd.data.views import Shift
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.teachers.cached import CachedTeacher
from kd.training.run import run


class InterruptTheTeacher(Callback):
    """Press Ctrl-C while the teacher looks ahead; its answers come at once afterwards."""

    def on_teacher_progress(self, done: int, wanted: int) -> None:
        if done < wanted:
            signal.raise_signal(signal.SIGINT)


class Watch(Callback):
    """Note the random state at the start, and progress and learning rate behind every step."""

    seen: ClassVar[list] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()  # a teacher that is trained first has a Watch of its own
        self.seen.append(torch.get_rng_state())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((pl_module.progress, rate))


class RuinAt(Callback):
    """Set every weight of the student to zero behind the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            for parameter in pl_module.student.parameters():
                parameter.data.zero_()


# 10 steps an epoch: in the middle of one, at its end, and right behind its start.
@pytest.mark.parametrize(
    ("method", "step"),
    [
        *(("fitnet", 5), ("fitnet", 8), ("fitnet", 14), ("fitnet", 21), ("kd", 5), ("kd", 10)),
        ("mgd", 5),  # masks at random
        ("ft", 14),  # freezes adapters in its second stage
        ("ce student=mlp800", 14),  # drops at random
    ],
)
def test_resuming_changes_nothing(method, step, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = f"method={method}".split()
    expected = run(configured(whole, output, *told), whole)
    stop = f"+callbacks.stop={{_target_: support.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(broken, output, *told, stop), broken)
    watch = "+callbacks.watch={_target_: test_run.Watch}"
    resumed = run(configured(broken, output, *told, f"resume={broken}", watch), broken)
    assert len(Watch.seen) - 1 == 30 - step  # it went on, and did not start over

    for key in ("val/acc", "best_epoch", "test/acc", "test/nll", "epochs"):
        assert resumed[key] == expected[key], key
    theirs = load_file(whole / "student.safetensors")
    for key, value in load_file(broken / "student.safetensors").items():
        assert value.equal(theirs[key]), key


def test_answers_to_other_images_end_the_run(output, tmp_path, monkeypatch):
    """The teacher is asked about the next epoch's views, as a wrong count somewhere would do."""
    prepare = CachedTeacher.prepare

    def off_by_one(self, loader, index, report):
        loader.sampler.epoch += 1
        prepare(self, loader, index, report)
        loader.sampler.epoch -= 1

    monkeypatch.setattr(CachedTeacher, "prepare", off_by_one)
    with pytest.raises(RuntimeError, match="teacher outputs belong to other images"):
        run(configured(tmp_path, output, "trainer.max_epochs=1"), tmp_path)
    assert present(read_result(tmp_path))["status"] == "failed"


def test_a_teacher_that_looks_ahead_is_interrupted(output, tmp_path):
    stop = "+callbacks.stop={_target_: test_run.InterruptTheTeacher}"
    fresh = f"paths.cache={tmp_path / 'cache'}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(tmp_path, output, fresh, stop), tmp_path)
    assert present(read_result(tmp_path))["error"] == "interrupted"
    assert not (tmp_path / "checkpoints").exists()  # it had not come to the first step


def test_the_test_set_sees_the_weights_that_validation_chose(output, tmp_path):
    stop = "+callbacks.ruin={_target_: test_run.RuinAt, step: 28}"
    result = run(configured(tmp_path, output, "method=ce", "logger=csv", stop), tmp_path)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        scores = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert len(scores) == 3
    assert max(scores) > scores[2]
    assert result["val/acc"] == pytest.approx(max(scores))
    assert result["best_epoch"] == 1 + max(i for i in range(3) if scores[i] == max(scores))
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = load_file(tmp_path / "student.safetensors")
    assert all(value.equal(saved[f"student.{key}"]) for key, value in weights.items())
    assert result["test/acc"] > 0.11  # a student of zeros answers one class, a tenth


@pytest.mark.parametrize(
    ("method", "dtype", "relative"),
    [("kd", "float32", 1e-6), ("kd", "float16", 1e-3), ("at", "float32", 1e-6)],
)
def test_cached_and_live_losses_agree(method, dtype, relative, output, tmp_path):
    losses = {}
    for mode in ("off", "refresh", "on"):
        options = (f"method={method}", f"teacher.cache.mode={mode}", f"teacher.cache.dtype={dtype}")
        watch = "+callbacks.losses={_target_: support.Losses}"
        result = run(configured(tmp_path / mode, output, *options, watch), tmp_path / mode)
        assert result["teacher/outputs"] == ("live" if mode == "off" else "cached")
        losses[mode] = list(Losses.seen)
    assert len(losses["off"]) == 30
    assert losses["refresh"] == losses["on"]
    assert losses["on"] == pytest.approx(losses["off"], rel=relative)


def test_a_sweep_asks_the_teacher_once(output, tmp_path):
    """Eight jobs of three epochs over nine views: one pass over what they show, and the test."""
    shared = [
        "paths.cache=" + str(tmp_path / "cache"),
        "paths.teachers=" + str(output / "teachers"),
    ]
    forwards = []
    for number, (temperature, alpha) in enumerate(product((1, 2, 4, 8), (0.5, 0.9))):
        knobs = [f"method.temperature={temperature}", f"method.alpha={alpha}"]
        folder = tmp_path / str(number)
        result = run(configured(folder, output, *shared, *knobs, "trainer.max_epochs=3"), folder)
        forwards.append(result["teacher_forwards"])
    assert forwards[1:] == [0] * 7
    views = set()
    loader = Digits(name="digits", view=Shift(), batch_size=128)
    loader.prepare_data()
    loader.setup()
    training = loader.train_dataloader()
    for epoch in range(3):
        training.sampler.set_epoch(epoch)
        index = training.sampler.order()[: 128 * len(training)]
        views |= set((index * 9 + training.views(index, epoch)).tolist())
    assert forwards[0] == len(views) + loader.num_samples["test"]


def test_methods_with_other_taps_share_the_logits(output, tmp_path, caplog):
    cache = f"paths.cache={tmp_path / 'cache'}"
    forwards = {}
    with caplog.at_level("INFO", "kd.teachers.cached"):
        for name in ("at", "kd"):
            folder = tmp_path / name
            result = run(configured(folder, output, f"method={name}", cache), folder)
            forwards[name] = result["teacher_forwards"]
    assert forwards["at"] > 1000
    assert forwards["kd"] == 0
    assert "teacher outputs cached as float16 (relative error: logits " in caplog.text
    assert "stage3 " in caplog.text


def test_a_net_whose_code_changed_is_asked_anew(output, tmp_path, monkeypatch, caplog):
    cache = f"paths.cache={tmp_path / 'cache'}"

    def forwards(name):
        return run(configured(tmp_path / name, output, cache), tmp_path / name)["teacher_forwards"]

    first, second = forwards("first"), forwards("second")
    assert (first > 1000, second) == (True, 0)
    normal = torch.nn.functional.adaptive_avg_pool2d
    pool = torch.nn.AdaptiveAvgPool2d
    monkeypatch.setattr(pool, "forward", lambda self, x: 2 * normal(x, self.output_size))
    monkeypatch.setattr("kd.training.single_teacher._check_record", lambda *_: None)
    assert forwards("third") == first
    assert "was filled with other outputs of the teacher" in caplog.text


def test_simkd_leaves_the_net_that_answers(output, tmp_path):
    """Chen et al. 2022: at inference the student's maps go through projector and teacher's head."""
    epochs = ["trainer.max_epochs=10", "teacher.training.trainer.max_epochs=10"]
    result = run(configured(tmp_path, output, "method=simkd", *epochs), tmp_path)
    weights = load_file(tmp_path / "student.safetensors")
    parts = {key.split(".")[0] for key in weights}
    assert parts == {"changed_student", "objective"}
    assert {"objective.head.weight", "objective.projector.0.weight"} <= weights.keys()
    trained = [k for k in weights if "running" not in k and "num_batches" not in k]
    assert result["student/params"] == sum(weights[key].numel() for key in trained)
    assert result["test/acc"] > 0.3  # its own untrained head is at 0.1
    with pytest.raises(UserError, match=r"(?s)does not fit the net.*unknown to the net"):
        run(configured(tmp_path, output, f"teacher.checkpoint={tmp_path}"), tmp_path / "next")


@pytest.mark.parametrize("method", ["fitnet", "ft", "ab", "fsp"])
def test_stages_train_what_they_say(method, output, tmp_path):
    """The first stage has its own term alone, the labels come in the second."""
    watch = "+callbacks.terms={_target_: test_run.Terms}"
    # These two nets have other channels.
    method = f"method={method}", *(["method.variant=project"] if method == "fsp" else [])
    run(configured(tmp_path, output, *method, "method.initial=0.5", watch), tmp_path)
    first, second = Terms.seen[0], Terms.seen[-1]
    assert len(Terms.seen) == 30
    assert Terms.seen[14] == first
    assert Terms.seen[15] == second
    assert "hard" not in first
    assert "hard" in second
    joint = tmp_path / "joint"
    run(configured(joint, output, *method, "method.joint=true", watch), joint)
    assert Terms.seen[0] == Terms.seen[-1]


class Terms(Callback):
    """Note which terms each step computed."""

    seen: ClassVar[list] = []

    # Not when it is made: a teacher that has to be trained first has one of its own.
    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(set(outputs["terms"]))


def test_compiled_nets_learn_the_same(output, tmp_path):
    results = [
        run(configured(tmp_path / name, output, f"compile={mode}", "trainer.max_epochs=1",
            "method=at", "teacher.cache.mode=off", "+callbacks.losses={_target_: support.Losses}",
            "trainer.limit_train_batches=3"), tmp_path / name) and list(Losses.seen)
        for name, mode in (("eager", "null"), ("compiled", "default"))
    ]  # fmt: skip
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_progress_and_learning_rate_go_by_the_step(output, tmp_path):
    watch = ("+callbacks.watch={_target_: test_run.Watch}", "scheduler=linear", "optimizer.lr=0.1")
    states = []
    for method in ("ce", "fitnet"):
        folder = tmp_path / method
        joint = ["method.joint=true"] if method == "fitnet" else []
        run(configured(folder, output, f"method={method}", *joint, *watch), folder)
        state, *steps = Watch.seen
        states.append(state.clone())
        assert len(steps) == 30
        for number, (progress, rate) in enumerate(steps, start=1):
            assert progress == pytest.approx(number / 30)
            assert rate == pytest.approx(0.1 * (1 - number / 30), abs=1e-6)
    # Adapters drew numbers; training starts from the same state all the same.
    assert states[0].equal(states[1])
