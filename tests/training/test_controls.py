"""Control arms: what each trains with, and that a run without one is what it was."""

import json
import math

import pytest
import torch
from omegaconf import open_dict
from support import composed, configured

from kd.build.data import build_data
from kd.config.controls import CONTROLS
from kd.config.experiment import experiment_settings
from kd.config.identity import settings_hash
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.teachers.frozen import FrozenTeacher
from kd.training.control_teachers import mean_confidence
from kd.training.controls import apply_control
from kd.training.finished import finished
from kd.training.run import run

TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=4")


def ran(tmp_path, output, *overrides):
    return run(configured(tmp_path, output, *TINY, *overrides), tmp_path)


def test_no_control_is_no_setting():
    cfg = composed()
    assert cfg.control is None
    assert "control" not in experiment_settings(cfg)
    before = settings_hash(cfg)
    with open_dict(cfg):
        del cfg["control"]  # as in configs of earlier versions
    assert settings_hash(cfg) == before
    assert settings_hash(composed("control=shuffled")) != before


def test_labels_alone_are_a_run_of_ce(output, tmp_path):
    result = ran(tmp_path / "a", output, "control=ce")
    plain = ran(tmp_path / "b", output, "method=ce")
    for key in ("method", "teacher", "test/acc", "test/nll", "teacher/test/acc"):
        assert result[key] == plain[key], key
    assert result["config_hash"] != plain["config_hash"]
    assert "control: ce" in RunFolder(tmp_path / "a").config.read_text()


def test_labels_are_smoothed_to_the_confidence_of_the_teacher(output, tmp_path, monkeypatch):
    confidences = []

    def recorded(*args):
        confidences.append(mean_confidence(*args))
        return confidences[-1]

    monkeypatch.setattr("kd.training.control_teachers.mean_confidence", recorded)
    result = ran(tmp_path / "a", output, "control=smoothing")
    (confidence,) = confidences
    epsilon = (1 - confidence) * 10 / 9  # 1 - epsilon + epsilon / 10 = confidence
    same = ran(
        tmp_path / "b", output, "method=ce", f"method.objectives.hard.label_smoothing={epsilon}"
    )
    assert result["test/nll"] == pytest.approx(same["test/nll"], abs=1e-6)
    assert result["teacher"] == "resnet8"
    assert result["test/agreement"] is not None


def test_the_confidence_is_the_mean_of_the_largest_probability():
    cfg = composed()
    data = build_data(cfg)
    linear = torch.nn.Linear(64, 10)
    net = torch.nn.Sequential(torch.nn.Flatten(), linear)
    torch.nn.init.zeros_(linear.weight)
    linear.bias.data = torch.tensor([math.log(11.0)] + [0.0] * 9)  # 11 / 20
    found = mean_confidence(FrozenTeacher(net, {}, []), data, torch.device("cpu"))
    assert found == pytest.approx(11 / 20)


def test_an_untrained_teacher_is_not_trained(output, tmp_path, caplog):
    result = ran(tmp_path, output, "control=untrained", "teacher.training.seed=77")
    assert "labels of the test set" not in caplog.text  # random outputs fit no labels
    assert result["teacher/source"] == "untrained"
    assert result["teacher/test/acc"] < 0.4
    assert result["teacher/seconds"] == 0
    cfg = configured(tmp_path, output, *TINY, "control=untrained", "teacher.training.seed=77")
    assert finished(cfg, tmp_path) is not None


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_shuffled_teachers_teach_otherwise(output, tmp_path, cache):
    results = {
        control: ran(
            tmp_path / control, output, f"control={control}", f"teacher.cache.mode={cache}"
        )
        for control in ("null", "shuffled_class", "shuffled")
    }
    accuracies = [each["test/nll"] for each in results.values()]
    assert len(set(accuracies)) == 3
    hashes = {json.dumps(each["teacher/weights_hash"]) for each in results.values()}
    assert len(hashes) == 1  # the same teacher, whose figures are its own
    assert len({each["teacher/test/acc"] for each in results.values()}) == 1


def test_the_student_is_its_own_teacher(output, tmp_path):
    overrides = *TINY, "control=self"
    result = run(configured(tmp_path, output, *overrides, teacher=("teacher=resnet20",)), tmp_path)
    assert (result["teacher"], result["compression"]) == ("resnet8", 1)
    cfg = configured(tmp_path, output, *overrides, teacher=("teacher=resnet20",))
    apply_control(cfg)
    assert finished(cfg, tmp_path) is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("control=shufled",), "did you mean 'shuffled'"),
        (("control=shuffled", "mode=online", "method=kd"), "control=shuffled is an arm of offline"),
        (("control=untrained", "teacher=ensemble"), "remove teacher=ensemble"),
        (("control=untrained", "teacher.checkpoint=a"), r"remove teacher\.checkpoint"),
    ],
)
def test_mistakes_name_what_to_remove(overrides, message):
    with pytest.raises(UserError, match=message):
        apply_control(composed(*overrides))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_second_call_changes_nothing(control):
    cfg = composed(f"control={control}")
    apply_control(cfg)
    once = experiment_settings(cfg)
    apply_control(cfg)
    assert experiment_settings(cfg) == once
