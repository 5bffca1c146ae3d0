"""Runs with several teachers: their cost, their registry entries, and mistakes in the config."""

from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from kd.build.data import build_data
from kd.config.compose import CONF_DIR, register_models
from kd.config.members import member_configs
from kd.errors import UserError
from kd.training.run import run
from kd.training.teacher_run import teacher_key
from kd.validation.check import check_config

TINY = (
    *("student=resnet8", "student.net.width=0.5", "trainer=cpu", "logger=none", "debug=fast"),
    "trainer.enable_progress_bar=false",
)
BOTH = ("teacher=ensemble", "teacher.members=[resnet8,lightnn]")


def configured(folder, output, *overrides, teacher=BOTH):
    register_models(CONF_DIR)
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *paths, *teacher, *overrides])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher.members=[resnet8,lightn]"], "no model 'lightn'; did you mean 'lightnn'"),
        (["teacher.members=[resnet8]"], "teacher.members=.*must be a list of two models or more"),
        (["teacher.members=resnet8"], "teacher.members=resnet8: must be a list of two"),
        (["teacher.combine=logit"], "teacher.combine=logit: .*did you mean 'logits'"),
        (["teacher.weighting=confident"], "teacher.weighting=.*did you mean 'confidence'"),
        (["teacher.weighting=fixed"], "teacher.weights=None: .*fixed needs 2 numbers"),
        (["teacher.weighting=fixed", "teacher.weights=[1,2,3]"], "needs 2 numbers ≥ 0"),
        (
            ["teacher.weights=[1,2]"],
            "weighting=uniform computes the weights; use teacher.weighting=fixed",
        ),
        (["teacher.checkpoints=[a]"], "teacher.checkpoints=.*must be a list of 2, one for each"),
        (["teacher.checkpoints=[a,3]"], "teacher.checkpoints=.*each must be a path or null"),
        (["teacher.checkpoint=a"], "teacher.checkpoint=a: an ensemble takes teacher.checkpoints"),
        (["teacher.temperature=0"], "teacher.temperature=0: must be a number > 0"),
        (["teacher.features=resnet20"], "teacher.features=resnet20: .*did you mean 'resnet8'"),
        (["method=at"], "reads the teacher's stage1, .*name one as teacher.features=resnet8"),
        (
            ["method=fitnet", "teacher.features=lightnn", "method.teacher_tap=stage3"],
            "no tap 'stage3' in teacher=ensemble",
        ),
        (["method=sp", "teacher.combine=losses"], "which are of one member.*use probabilities"),
        (
            ["teacher.combine=losses", "teacher.weighting=entropy"],
            "a loss is a mean over the batch.*teacher.combine=probabilities has the gradient",
        ),
        (
            ["teacher.weighting=confidence", "data/augment=mixup"],
            "MixUp mixes labels, and teacher.weighting=confidence reads them",
        ),
    ],
)
def test_mistakes_in_the_config_are_refused(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(configured("run", "out", *overrides))


def test_member_has_the_key_of_the_same_single_teacher():
    cfg = configured("run", "out", "teacher.members=[resnet8,lightnn,resnet8]")
    data: Any = SimpleNamespace(fingerprint="data")
    members = member_configs(cfg)
    assert list(members) == ["resnet8", "lightnn", "resnet8-2"]
    for name in ("resnet8", "lightnn"):
        alone = configured("run", "out", teacher=[f"teacher={name}"])
        assert teacher_key(members[name], data) == teacher_key(alone, data)
    second = configured("run", "out", teacher=["teacher=resnet8", "teacher.training.seed=1"])
    assert teacher_key(members["resnet8-2"], data) == teacher_key(second, data)
    assert cfg.teacher.training.seed == 0


def test_checkpoints_are_assigned_in_order():
    cfg = configured("run", "out", "teacher.checkpoints=[null,some/where]")
    found = {name: member.teacher.checkpoint for name, member in member_configs(cfg).items()}
    assert found == {"resnet8": None, "lightnn": "some/where"}


@pytest.mark.slow
def test_another_combination_needs_no_forward_pass(output, tmp_path):
    forwards, accuracies = {}, {}
    settings = {
        "first": (),
        "logits": ("teacher.combine=logits",),
        "losses": ("teacher.combine=losses",),
        "entropy": ("teacher.weighting=entropy",),
        "confidence": ("teacher.weighting=confidence",),
        "fixed": ("teacher.weighting=fixed", "teacher.weights=[0,1]"),
    }
    for name, overrides in settings.items():
        result = run(configured(tmp_path / name, output, *overrides), tmp_path / name)
        forwards[name] = result["teacher_forwards"]
        accuracies[name] = result["teacher/test/acc"]
    assert forwards.pop("first") == 2 * (359 + 2 * 64)  # test images, two batches of 64
    assert set(forwards.values()) == {0}
    assert (result["teacher"], result["teacher/members"]) == ("ensemble", ["resnet8", "lightnn"])
    assert result["teacher/source"] == "reused, reused"
    assert result["teacher/outputs"] == "cached"
    # With all weight on the second member, the ensemble equals it.
    assert accuracies["fixed"] == result["teacher/members/test/acc"][1]
    assert len(list((output / "teachers").glob("[!.]*"))) == 2


# simkd reads that member's head as well.
@pytest.mark.parametrize("method", ["at", "simkd"])
def test_features_come_from_the_named_member(method, output, tmp_path):
    overrides = (f"method={method}", "teacher.features=resnet8", "teacher.cache.mode=off")
    result = run(configured(tmp_path, output, *overrides), tmp_path)
    assert result["status"] == "completed"
    assert result["teacher/outputs"] == "live"
    sizes = []
    for name, cfg in member_configs(configured(tmp_path, output, *overrides)).items():
        key = teacher_key(cfg, build_data(cfg))
        weights = load_file(output / "teachers" / key / "student.safetensors")
        trained = [k for k in weights if "running" not in k and "num_batches" not in k]
        sizes.append(sum(weights[k].numel() for k in trained))
        assert cfg.teacher.name == name
    assert result["teacher/params"] == sum(sizes)
