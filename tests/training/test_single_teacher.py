"""Teachers of a given epoch: `teacher.epoch` and `keep_epochs`."""

import json

import pytest
from safetensors.torch import load_file
from support import configured

from kd.build.data import build_data
from kd.errors import UserError
from kd.io.checksums import with_checksum
from kd.io.run_folder import RunFolder
from kd.training.run import run
from kd.training.teacher_run import teacher_key
from kd.validation.check import check_config

TINY = (
    *("student.net.width=0.5", "teacher.training.trainer.max_epochs=3", "data.batch_size=64"),
    *("trainer.limit_train_batches=2", "teacher.training.trainer.limit_train_batches=4"),
)


def test_the_teacher_of_any_epoch_comes_from_one_training(output, tmp_path):
    """Epochs 1 to 3 of one registry entry; the plain teacher has another."""
    found = {}
    for epoch in (1, 2, 3):
        cfg = configured(tmp_path / str(epoch), output, *TINY, f"teacher.epoch={epoch}")
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


def test_all_epochs_of_a_teacher_have_one_registry_key():
    data = build_data(configured("run", "out", *TINY))
    keys = {
        e: teacher_key(configured("run", "out", *TINY, f"teacher.epoch={e}"), data) for e in (1, 3)
    }
    assert keys[1] == keys[3]
    assert keys[1] != teacher_key(configured("run", "out", *TINY), data)


def test_a_recorded_accuracy_is_compared_at_the_best_epoch_only(output, tmp_path):
    cfg = configured(tmp_path, output, *TINY, "teacher.epoch=1")
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


def test_an_epoch_can_be_taken_from_a_run_folder(output, tmp_path):
    kept, plain = tmp_path / "kept", tmp_path / "plain"
    alone = ("method=ce", "trainer.max_epochs=2", "student.net.width=1")
    run(configured(kept, output, *TINY, *alone, "keep_epochs=true"), kept)
    run(configured(plain, output, *TINY, *alone), plain)
    assert sorted(p.name for p in (kept / "epochs").iterdir()) == [
        "epoch_0001.safetensors",
        "epoch_0002.safetensors",
    ]
    student = tmp_path / "student"
    taught = ("teacher.epoch=1", "trainer.max_epochs=1", f"teacher.checkpoint={kept}")
    assert (
        run(configured(student, output, *TINY, *taught), student)["teacher/source"] == "checkpoint"
    )
    messages = {
        (f"teacher.checkpoint={kept}", "teacher.epoch=9"): "has no .*epoch_0009.*it has 1 … 2",
        (f"teacher.checkpoint={plain}", "teacher.epoch=1"): "has no .*keep_epochs=true",
        (f"teacher.checkpoint={kept}/no", "teacher.epoch=1"): "checkpoint .*/no does not exist",
    }
    for overrides, message in messages.items():
        with pytest.raises(UserError, match=message):
            run(configured(student, output, *TINY, *overrides), tmp_path / "other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.epoch=0", "teacher.epoch=0: must be a whole number ≥ 1"),
        ("teacher.epoch=last", "teacher.epoch=last: must be a whole number ≥ 1"),
        ("teacher.epoch=4", "teacher.epoch=4: the teacher is trained for 3 epochs"),
        ("keep_epochs=3", "keep_epochs=3: must be true or false"),
    ],
)
def test_impossible_epochs_are_refused(override, message):
    with pytest.raises(UserError, match=message):
        check_config(configured("run", "out", *TINY, override))


def test_the_epoch_applies_to_every_member_of_an_ensemble(output, tmp_path):
    both = ("teacher.members=[resnet8,mlp800]", "teacher.epoch=2", "trainer.max_epochs=1")
    run(configured(tmp_path, output, *TINY, *both, teacher=("teacher=ensemble",)), tmp_path)
    kept = [path.parent.parent.name for path in (output / "teachers").rglob("epoch_0002*")]
    assert {name.split("-")[0] for name in kept} == {"resnet8", "mlp800"}
