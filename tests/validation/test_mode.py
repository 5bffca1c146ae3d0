"""The mode has the teacher that it needs, and both nets have the taps that are read."""

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=none"], "objectives.soft needs a teacher, and teacher=none"),
        (["method=fitnet", "method.student_tap=stag2"], "no tap 'stag2'.*did you mean 'stage2'"),
        (
            ["mode=pskd", "method=normkd"],
            "objectives.soft compares logits themselves, and those of mode=pskd are of certain",
        ),
        (["mode=pskd", "method=logit_mse"], "choose a method on their softmax"),
        (
            ["method=datafree", "teacher.cache.mode=on"],
            "teacher.cache=on: method=datafree trains on images of its own, whose teacher outputs",
        ),
        (
            ["method=datafree", "data/augment=mixup"],
            "data/augment: MixUp augments training images, and method=datafree",
        ),
        (["method=fitnet", "method.teacher_tap=stage4"], "no tap 'stage4' in teacher=resnet20"),
        (
            ["method=fitnet", "student=torchvision", "student.net.arch=alexnet"],
            "no tap 'stage2' in student=torchvision_alexnet; it has no default taps: give module "
            "paths, as student.taps={stage2: features.3}",
        ),
    ],
)
def test_missing_teachers_and_taps_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))
