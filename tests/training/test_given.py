"""Runs with nets, data and objectives that the caller built."""

import pytest
import torch
from omegaconf import open_dict
from support import built, configured

from kd.build.data import build_data
from kd.build.given import GivenParts, describe_net
from kd.build.method import Method
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.io.weights import load_weights
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets
from kd.training.run import run


def net(width=0.5):
    torch.manual_seed(7)
    return built("resnet8", width=width)[0].train()


def given_config(folder, output, student, teacher, *overrides):
    """A config whose nets are descriptions of given ones."""
    cfg = configured(folder, output, "trainer.max_epochs=1", *overrides)
    with open_dict(cfg):
        cfg.student.net, cfg.teacher.net = describe_net(student), describe_net(teacher)
    return cfg


@pytest.fixture(scope="module")
def trained(output, tmp_path_factory):
    """The weights and the test accuracy of a net trained from labels."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = configured(folder, output, "method=ce", "student.net.width=1", teacher=())
    return folder, run(cfg, folder)["test/acc"]


def given_teacher(trained):
    teacher = net(width=1.0)
    load_weights(teacher, trained[0])
    return teacher


@pytest.mark.parametrize("cache", ["off", "on"])
def test_a_given_teacher_is_frozen_and_its_weights_are_used(cache, trained, output, tmp_path):
    student, teacher = net(), given_teacher(trained)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    started = {name: value.clone() for name, value in student.state_dict().items()}
    cfg = given_config(tmp_path, output, student, teacher, f"teacher.cache.mode={cache}")
    result = run(cfg, tmp_path, GivenParts(student=student, teacher=teacher))
    assert result["teacher/test/acc"] == pytest.approx(trained[1])
    assert result["teacher/source"] == "given"
    assert result["status"] == "completed"
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    weight = "conv.weight" if "conv.weight" in started else next(iter(started))
    assert not torch.equal(student.state_dict()[weight], started[weight])  # trained in place


def test_given_parts_train_as_configured_ones_do(output, tmp_path):
    configured_run = run(
        configured(tmp_path / "a", output, "trainer.max_epochs=1", "method=kd"), tmp_path / "a"
    )
    cfg = configured(tmp_path / "b", output, "trainer.max_epochs=1", "method=kd")
    alpha, temperature = cfg.method.alpha, cfg.method.temperature
    plan = Plan([Stage("", 1.0, {"hard": 1 - alpha, "soft": alpha})])
    method = Method({"hard": CrossEntropy(), "soft": SoftTargets(temperature)}, plan)
    with open_dict(cfg):
        cfg.method.objectives, cfg.method.weights = {}, {}
    given_run = run(cfg, tmp_path / "b", GivenParts(data=build_data(cfg), method=method))
    for key in ("val/acc", "test/acc", "test/nll", "test/agreement"):
        assert given_run[key] == configured_run[key]


def test_the_description_of_a_net_tells_nets_apart():
    assert describe_net(net()) == describe_net(net())
    assert describe_net(net()) != describe_net(net(width=1.0))


def test_a_given_student_is_no_pattern_for_peers(output, tmp_path):
    student = net()
    cfg = configured(tmp_path, output, "mode=online", teacher=())
    with open_dict(cfg):
        cfg.student.net = describe_net(student)
    with pytest.raises(UserError, match=r"mode\.peers: a student that is given as a module"):
        run(cfg, tmp_path, GivenParts(student=student))
