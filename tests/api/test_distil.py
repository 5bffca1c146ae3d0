"""`kd.distil`: the command line's runs, from nets, data and objectives of the caller."""

import json
from typing import Any

import pytest
import torch
from foreign import Pictures, Plain
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from support import built, configured
from torch.utils.data import DataLoader

import kd
from kd.api.distil import _given_data
from kd.api.settings import compose_config
from kd.config.compose import CONF_DIR
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets
from kd.training.run import run

FAST: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "progress_bar": False}


def nets():
    torch.manual_seed(3)
    return built("resnet8", width=0.5)[0].train(), built("resnet8", width=0.5)[0]


def loaders():
    splits = {split: Pictures(split, count) for split, count in (("train", 256), ("val", None))}
    return [
        DataLoader(splits["train"], batch_size=64, shuffle=True),
        DataLoader(splits["val"], batch_size=128),
        DataLoader(Pictures("test"), batch_size=128),
    ]


def test_names_give_the_run_of_the_command_line(output, tmp_path):
    result = kd.distil(
        *("resnet8", "resnet8", "digits", "dkd"), temperature=3, **FAST, folder=tmp_path / "a",
        batch_size=128,
        overrides=[
            *(f"paths.output={output}", "student.net.width=0.5", "logger=none"),
            "teacher.training.trainer.max_epochs=1",
        ],
    )  # fmt: skip
    overrides = ("method=dkd", "method.temperature=3", "trainer.max_epochs=1")
    command = run(configured(tmp_path / "b", output, *overrides), tmp_path / "b")
    for key in ("val/acc", "test/acc", "test/nll", "test/agreement", "config_hash"):
        assert result[key] == command[key], key
    recorded = json.loads((result.folder / "result.json").read_text())
    assert {key: recorded[key] for key in result} == dict(result)


@pytest.mark.parametrize(("settings", "expected"), [({}, 64), ({"batch_size": 32}, 32)])
def test_the_batch_size_is_that_of_the_loader_or_the_keyword(settings, expected):
    cfg = compose_config(["data=external", "data._target_=given"], settings)
    assert _given_data(cfg, loaders()).batch_size == expected
    assert cfg.data.batch_size == expected


def test_facts_about_own_loaders_are_recorded_with_the_student(tmp_path):
    student, teacher = nets()
    names, scale = [f"digit {number}" for number in range(10)], ([0.3], [0.4])
    facts = {"class_names": names, "mean": scale[0], "std": scale[1], **FAST}
    result = kd.distil(student, teacher, loaders(), folder=tmp_path, **facts)
    loaded = kd.load(result.folder, net=student)
    assert loaded.class_names == names
    assert loaded.normalisation == scale


def test_own_nets_on_own_loaders(tmp_path):
    student, teacher = nets()
    test = loaders()[2]
    result = kd.distil(student, teacher, loaders(), "kd", **FAST, folder=tmp_path)
    with torch.no_grad():
        right = sum(int((result.student(x).argmax(1) == y).sum()) for x, y in test)
    assert result["test/acc"] == pytest.approx(right / len(test.dataset))
    assert result["teacher/source"] == "given"
    assert result["teacher/outputs"] == "live"
    config: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / ".hydra" / "config.yaml"))
    assert config["data"]["seed"] == "${seed}"  # one row in a report
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_own_objectives_with_weights(tmp_path):
    student, teacher = nets()
    method = {"hard": (CrossEntropy(), 0.1), "soft": (SoftTargets(temperature=4), 0.9)}
    given = kd.distil(student, teacher, Plain(), method, **FAST, folder=tmp_path / "a")
    student, teacher = nets()
    named = kd.distil(student, teacher, Plain(), "kd", **FAST, folder=tmp_path / "b")
    assert given["test/nll"] == named["test/nll"]


def test_features_are_read_at_named_taps(tmp_path):
    student, teacher = nets()
    _, taps = built("resnet8", width=0.5)
    result = kd.distil(
        *(student, teacher, loaders(), "at"), **FAST, folder=tmp_path,
        student_taps=taps, teacher_taps=taps,
    )  # fmt: skip
    assert result["status"] == "completed"
    student, teacher = nets()
    with pytest.raises(kd.UserError, match="stage"):
        kd.distil(student, teacher, loaders(), "cwd", **FAST, folder=tmp_path / "none")


def test_the_callers_hydra_is_left_as_it_was(tmp_path):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        with pytest.raises(kd.UserError):
            kd.distil(method="kdd")
        assert GlobalHydra.instance().hydra is before
        assert compose("train", overrides=["method=kd", "paths.run=x"]).method.name == "kd"
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "kdd"}, r"method=kdd: there is no such option; did you mean 'kd'"),
        ({"student": "resnet9"}, r"student=resnet9: there is no such option"),
        ({"num_classes": 3}, "num_classes: data=digits has its own"),
        ({"temprature": 3}, r"temprature: neither .* did you mean 'temperature'"),
        ({"optimizer": "adm"}, r"optimizer=adm: there is no such option; did you mean 'adam'"),
        ({"temperature": -1}, r"method\.temperature=-1: must be a number > 0"),
        ({"method": {}}, r"method must be a name, or objectives by name"),
        ({"data": loaders(), "num_classes": "3"}, "data: num_classes must be an integer"),
        (
            {"data": loaders(), "num_classes": 3, "class_names": ["a", "b"]},
            "data: num_classes=3, but there are 2 class_names",
        ),
        ({"data": loaders(), "mean": [0.5]}, "data: mean and std must be of equal length"),
        (
            {"data": "digits_scenes", "method": "ofd"},
            r"\Aa mistake in .*\n.* such as method=det_kd$",
        ),
        ({"data": 3}, r"data must be a LightningDataModule or \(train, val, test\)"),
        ({"student": 3}, r"student must be a module or the name of a model, got int"),
    ],
)
def test_mistakes_have_one_message(arguments, message, tmp_path):
    with pytest.raises(kd.UserError, match=message):
        kd.distil(**{"folder": tmp_path / "run", **FAST, **arguments})


def test_a_student_that_its_method_changes_costs_no_result(output, tmp_path):
    result = kd.distil(
        *("resnet8", "resnet8", "digits", "simkd"), **FAST, folder=tmp_path,
        overrides=[f"paths.output={output}", "teacher.training.trainer.max_epochs=1"],
    )  # fmt: skip
    assert result["status"] == "completed"
    with pytest.raises(kd.UserError, match="method=simkd predicts with parts of its own"):
        _ = result.student
