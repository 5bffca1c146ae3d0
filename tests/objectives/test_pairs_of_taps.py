"""Taps of two names: `student:teacher`."""

import logging

import pytest
import torch
from conftest import make_batch
from support import built, composed

from kd.build.method import build_method
from kd.objectives.at import AttentionTransfer
from kd.objectives.setting import Setting
from kd.taps import Taps
from kd.types import Outputs

BY_STAGES = [
    "ab",
    "afd",
    "at",
    "cwd",
    "fsp",
    "ft",
    "ickd",
    "irg",
    "mgd",
    "nst",
    "ofd",
    "reviewkd",
    "sp",
    "vid",
]


@pytest.mark.parametrize("method", BY_STAGES)
def test_a_deeper_teacher_gives_its_last_stages(method):
    options = ["method.variant=project"] if method == "fsp" else []
    cfg = composed(f"method={method}", "teacher=resnet18", "student=resnet8", *options)
    (objective,) = (o for k, o in build_method(cfg).objectives.items() if k not in ("hard", "soft"))
    stages = [tap for tap in objective.teacher_taps if tap.startswith("stage")]
    assert stages == ["stage2", "stage3", "stage4"][-len(stages) :]
    assert objective.student_taps[len(stages) - 1] == "stage3"
    images = torch.randn(4, 1, 16, 16)
    nets = [(built("resnet8"), objective.student_taps), (built("resnet18"), objective.teacher_taps)]
    student, teacher = (Taps(net, paths, taps).outputs(images) for (net, paths), taps in nets)
    teacher = objective.aligned(teacher)
    assert teacher.taps["stage3"].shape[1] == 512
    objective.build(student, teacher, Setting(10, torch.arange(40) % 10))
    assert objective(student, teacher, make_batch(torch.arange(4))).isfinite()


def test_equal_names_leave_the_outputs_as_they_are():
    teacher = Outputs(torch.zeros(1, 2), {"stage1": torch.zeros(1, 3, 2, 2)})
    assert AttentionTransfer(["stage1"]).aligned(teacher) is teacher


def test_a_tap_with_two_partners_is_refused():
    with pytest.raises(ValueError, match="taps must pair a tap of the student once, got"):
        AttentionTransfer(["stage1:stage1", "stage1:stage2"])


def test_maps_of_one_position_are_named(caplog):
    objective = AttentionTransfer(["stage3:stage4"])
    student = Outputs(torch.zeros(1, 2), {"stage3": torch.ones(1, 3, 2, 2)})
    teacher = Outputs(torch.zeros(1, 2), {"stage4": torch.ones(1, 5, 1, 1)})
    with caplog.at_level(logging.WARNING):
        objective.build(student, objective.aligned(teacher), Setting(2, torch.zeros(3)))
    assert "stage3 the maps [3, 2, 2] and [5, 1, 1] have one in common" in caplog.text


@pytest.mark.parametrize("method", ["at", "nst", "afd"])
def test_the_teachers_shapes_alone_drop_maps_of_one_position(method, caplog):
    cfg = composed(f"method={method}", "method.taps=[stage1,stage2,stage3:stage4]")
    (objective,) = (o for k, o in build_method(cfg).objectives.items() if k not in ("hard", "soft"))
    small = torch.ones(2, 5, 1, 1)
    maps = {"stage1": torch.ones(2, 5, 4, 4), "stage2": small, "stage4": small}
    teacher = Outputs(torch.zeros(2, 2), maps)
    with caplog.at_level(logging.WARNING):
        objective.select_taps(objective.aligned(teacher))
    assert objective.student_taps == objective.teacher_taps == ("stage1",)
    assert "stage3 the teacher's map [5, 1, 1] has one: the pair is left out" in caplog.text
    caplog.clear()
    student = Outputs(torch.zeros(2, 2), {"stage1": torch.ones(2, 3, 4, 4)})
    with caplog.at_level(logging.WARNING):
        objective.build(student, objective.aligned(teacher), Setting(2, torch.zeros(3)))
    assert caplog.text == "", "each pair is named once"


def test_maps_of_one_position_alone_are_kept_and_named_once(caplog):
    objective = AttentionTransfer(["stage3"])
    outputs = Outputs(torch.zeros(1, 2), {"stage3": torch.ones(1, 3, 1, 1)})
    with caplog.at_level(logging.WARNING):
        objective.select_taps(outputs)
        objective.build(outputs, outputs, Setting(2, torch.zeros(3)))
    assert objective.student_taps == ("stage3",)
    assert caplog.text.count("the method has no gradient") == 1
