"""Ways of training that are settings of the offline mode: stopped early, and function matching."""

import json
import signal
from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback
from safetensors.torch import load_file

from kd.build.parts import build_data
from kd.config.compose import CONF_DIR, register_models
from kd.errors import UserError
from kd.io.checksums import with_checksum
from kd.io.run_folder import RunFolder
from kd.training.run import run
from kd.training.teacher import teacher_key
from kd.validation.check import check_config

TINY = (
    *("student=resnet8", "student.net.width=0.5", "trainer=cpu", "logger=none"),
    *("trainer.enable_progress_bar=false", "teacher.training.trainer.max_epochs=3"),
    *("trainer.limit_train_batches=2", "teacher.training.trainer.limit_train_batches=4"),
)


def configured(folder, output, *overrides, teacher="resnet8"):
    register_models(CONF_DIR)
    paths = [f"paths.run={folder}", f"paths.output={output}", f"teacher={teacher}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *paths, *overrides])


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Lightning switches Ctrl-C off for the rest of the process."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class Watch(Callback):
    """Note which terms each step computed, and what the two nets were shown."""

    terms: ClassVar[list] = []
    inputs: ClassVar[dict] = {}

    # Not when it is made: a teacher that has to be trained first has one of its own.
    def on_train_start(self, trainer, pl_module) -> None:
        self.terms.clear()
        self.inputs.update(student=[], teacher=[])
        nets = {"student": pl_module.student}
        if pl_module.teacher is not None:
            nets["teacher"] = pl_module.teacher.nets[0]
        for name, net in nets.items():
            seen = self.inputs[name]
            net.register_forward_pre_hook(lambda net, inputs, seen=seen: seen.append(inputs[0]))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.terms.append(set(outputs["terms"]))


WATCH = "+callbacks.watch={_target_: test_procedures.Watch}"


def test_the_teacher_of_any_epoch_comes_from_one_training(output, tmp_path):
    """Epochs 1 to 3 of one registry entry; the plain teacher has another."""
    found = {}
    for epoch in (1, 2, 3):
        cfg = configured(tmp_path / str(epoch), output, f"teacher.epoch={epoch}")
        found[epoch] = run(cfg, tmp_path / str(epoch))
    sources = [result["teacher/source"] for result in found.values()]
    assert sources == ["trained now", "reused", "reused"]
    (folder,) = (output / "teachers").glob("[!.]*")
    assert folder.name == teacher_key(cfg, build_data(cfg))
    best = json.loads((folder / "result.json").read_text())
    chosen = load_file(folder / "student.safetensors")
    for epoch, result in found.items():
        weights = load_file(RunFolder(folder).epoch(epoch))
        same = all(value.equal(chosen[key]) for key, value in weights.items())
        assert same == (epoch == best["best_epoch"])
        if same:
            assert result["teacher/test/acc"] == pytest.approx(best["test/acc"])
    assert not (tmp_path / "1" / "epochs").exists()


def test_the_plain_teachers_key_does_not_know_of_epochs():
    data = build_data(configured("run", "out"))
    keys = {e: teacher_key(configured("run", "out", f"teacher.epoch={e}"), data) for e in (1, 3)}
    assert keys[1] == keys[3]
    assert keys[1] != teacher_key(configured("run", "out"), data)


def test_a_record_that_differs_counts_for_the_best_epoch_alone(output, tmp_path):
    cfg = configured(tmp_path, output, "teacher.epoch=1")
    run(cfg, tmp_path)
    file = output / "teachers" / teacher_key(cfg, build_data(cfg)) / "result.json"
    record = json.loads(file.read_text())
    try:
        file.write_text(json.dumps(with_checksum(record | {"test/acc": 0.5, "best_epoch": 2})))
        run(cfg, tmp_path)
        file.write_text(json.dumps(with_checksum(record | {"test/acc": 0.5, "best_epoch": 1})))
        with pytest.raises(UserError, match=r"0\.5000 was recorded when it was trained"):
            run(cfg, tmp_path)
    finally:
        file.write_text(json.dumps(record))


def test_epochs_of_a_run_folder(output, tmp_path):
    kept, plain = tmp_path / "kept", tmp_path / "plain"
    alone = ("method=ce", "trainer.max_epochs=2", "student.net.width=1")
    run(configured(kept, output, *alone, "keep_epochs=true"), kept)
    run(configured(plain, output, *alone), plain)
    assert sorted(p.name for p in (kept / "epochs").iterdir()) == [
        "epoch_0001.safetensors",
        "epoch_0002.safetensors",
    ]
    student = tmp_path / "student"
    taught = ("teacher.epoch=1", "trainer.max_epochs=1", f"teacher.checkpoint={kept}")
    assert run(configured(student, output, *taught), student)["teacher/source"] == "checkpoint"
    messages = {
        (f"teacher.checkpoint={kept}", "teacher.epoch=9"): "has no .*epoch_0009.*it has 1 … 2",
        (f"teacher.checkpoint={plain}", "teacher.epoch=1"): "has no .*keep_epochs=true",
        (f"teacher.checkpoint={kept}/no", "teacher.epoch=1"): "checkpoint .*/no does not exist",
    }
    for overrides, message in messages.items():
        with pytest.raises(UserError, match=message):
            run(configured(student, output, *overrides), tmp_path / "other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.epoch=0", "teacher.epoch=0: must be a whole number ≥ 1"),
        ("teacher.epoch=last", "teacher.epoch=last: must be a whole number ≥ 1"),
        ("teacher.epoch=4", "teacher.epoch=4: the teacher is trained for 3 epochs"),
        ("keep_epochs=3", "keep_epochs=3: must be true or false"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(UserError, match=message):
        check_config(configured("run", "out", override))


def test_the_epoch_holds_for_every_member(output, tmp_path):
    both = ("teacher.members=[resnet8,mlp800]", "teacher.epoch=2", "trainer.max_epochs=1")
    run(configured(tmp_path, output, *both, teacher="ensemble"), tmp_path)
    kept = [path.parent.parent.name for path in (output / "teachers").rglob("epoch_0002*")]
    assert {name.split("-")[0] for name in kept} == {"resnet8", "mlp800"}


def test_a_soft_term_that_ends_is_neither_computed_nor_asked_for(output, tmp_path):
    """ESKD, Cho & Hariharan 2019: 5 epochs of 2 batches, and the teacher in the first 6 steps."""
    options = ("experiment=eskd", "method.schedules.alpha.end=0.6", "teacher.cache.mode=off")
    cfg = configured(tmp_path, output, *options, "trainer.max_epochs=5", WATCH)
    result = run(cfg, tmp_path)
    assert Watch.terms == [{"hard", "soft"}] * 6 + [{"hard"}] * 4
    assert len(Watch.inputs["teacher"]) == 6
    assert result["teacher_forwards"] == 359 + 6 * 64


def test_function_matching_shows_both_nets_the_same(output, tmp_path):
    """Beyer et al. 2022: one view and one mixture, bit by bit, and nothing but KL."""
    options = ("experiment=function_matching", "trainer.max_epochs=2", WATCH)
    cfg = configured(tmp_path, output, *options)
    result = run(cfg, tmp_path)
    assert result["teacher/outputs"] == "live"
    assert Watch.terms == [{"soft"}] * 4
    teacher, student = Watch.inputs["teacher"], Watch.inputs["student"][:4]
    assert len(teacher) == 4
    # The student is also shown validation images, between the epochs.
    shown = [images for images in Watch.inputs["student"] if len(images) == 64]
    assert all(ours.equal(theirs) for ours, theirs in zip(teacher, shown, strict=True))
    # Mixed indeed: the digits have 17 shades of grey, and mixtures have more.
    assert len(torch.unique(student[0])) > 100
