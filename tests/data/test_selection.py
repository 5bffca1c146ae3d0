"""Parts of the training samples: shares of classes, and classes that a student never sees."""

import json

import pytest
import torch
from omegaconf import open_dict
from small_data import ready
from support import composed, configured

from kd.build.data import build_data
from kd.config.identity import settings_hash
from kd.data.selection import leave_out_classes
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.training.run import run
from kd.training.teacher_run import teacher_data
from kd.validation.check import check_config


def digits(**settings):
    cfg = composed(*(f"data.{key}={value}" for key, value in settings.items()))
    return ready(build_data(cfg))


def seen(data):
    return torch.cat([batch.target for batch in data.train_dataloader()])


def test_a_part_of_each_class_is_kept():
    whole, part = digits(), digits(train_samples=200)
    counts, kept = (torch.bincount(data.train_targets[data.split.train]) for data in (whole, part))
    assert kept.sum() == part.num_samples["train"] == pytest.approx(200, abs=5)
    torch.testing.assert_close(kept / kept.sum(), counts / counts.sum(), atol=0.01, rtol=0)
    assert set(part.split.train.tolist()) < set(whole.split.train.tolist())
    assert torch.equal(part.split.val, whole.split.val)
    assert part.fingerprint != whole.fingerprint


def test_a_class_is_left_out_of_the_transfer_set_alone():
    whole, part = digits(), digits(leave_out="[3,'7']")
    assert not {3, 7} & set(seen(part).tolist())
    assert {3, 7} < set(part.test_targets.tolist())
    assert {3, 7} < {int(t) for batch in part.val_dataloader() for t in batch.target}
    cfg = composed("data.leave_out=[3]")
    assert {3, 7} < set(seen(teacher_data(cfg, part)).tolist())
    assert part.fingerprint == whole.fingerprint  # of the teacher's data


def test_the_teacher_of_all_classes_is_shared(output, tmp_path):
    tiny = ("trainer.max_epochs=1", "trainer.limit_train_batches=4")
    run(configured(tmp_path / "a", output, *tiny), tmp_path / "a")
    run(configured(tmp_path / "b", output, *tiny, "data.leave_out=[3]"), tmp_path / "b")
    first, second = (json.loads(RunFolder(tmp_path / n).result.read_text()) for n in "ab")
    assert second["teacher/source"] == "reused"
    assert second["teacher/test/acc"] == first["teacher/test/acc"]
    assert second["config_hash"] != first["config_hash"]


def test_null_is_as_in_configs_without_the_keys():
    cfg = composed()
    before = settings_hash(cfg)
    with open_dict(cfg):
        for key in ("train_samples", "leave_out"):
            del cfg.data[key]
    assert settings_hash(cfg) == before
    assert settings_hash(composed("data.leave_out=[3]")) != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_samples": 5000}, r"data.train_samples=5000, but there are 1293 training samples"),
        ({"leave_out": "[13]"}, r"data.leave_out: no class 13; .*valid: 0, 1, 2"),
        ({"leave_out": "[0,1,2,3,4,5,6,7,8,9]"}, "leaves no training sample"),
    ],
)
def test_an_impossible_selection_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        digits(**settings)  # in setup, before a teacher is trained


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.train_samples=0", "train_samples must be ≥ 1 or null, got 0"),
        ("data.leave_out=3", r"leave_out must be a list of classes, as \[3\], or null, got 3"),
        ("data.leave_out=[]", r"leave_out must be a list of classes, .* got \[\]"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_data_are_built(setting, message):
    with pytest.raises(UserError, match=message):
        build_data(composed(setting))


def test_a_share_is_no_number_of_samples(output, tmp_path):
    with pytest.raises(UserError, match=r"data.train_samples=0.5: must be int or null"):
        check_config(configured(tmp_path, output, "data.train_samples=0.5"))


def test_a_name_is_meant_where_a_label_is_written_the_same():
    targets = torch.tensor([0, 1, 2, 1])
    kept = leave_out_classes(torch.arange(4), targets, ["1", "2", "3"], [1, 0])
    assert kept.tolist() == [1, 2, 3]  # both are the class of label 0
