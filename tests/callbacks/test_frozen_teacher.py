"""Detection of a teacher that is no longer frozen."""

from types import SimpleNamespace
from typing import Any

import pytest
from support import UNUSED
from torch import nn

from kd.callbacks.frozen_teacher import FrozenTeacherCheck
from kd.teachers.base import Teacher


class OneNet(Teacher):
    """A teacher of one net that a test can change."""

    output_source, forwards, seconds, head = "live", 0, 0.0, None
    needs_preparation = False

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.net.requires_grad_(False)
        self.eval()

    @property
    def nets(self):
        return [self.net]

    def outputs(self, batch): ...
    def example_outputs(self, images): ...
    def prepare(self, loader, index, report): ...


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net: net.train(),
            "no longer frozen: modules in training mode .*'the net', '0', '1'",
        ),
        (lambda net: net[0].weight.requires_grad_(True), "parameters with gradients .*'0.weight'"),
        (lambda net: net[1].running_mean.add_(1e-6), "buffers changed during the epoch"),
    ],
)
def test_changed_teacher_is_refused(change, message):
    module: Any = SimpleNamespace(teacher=OneNet())
    check = FrozenTeacherCheck()
    check.on_train_start(UNUSED, module)
    check.on_train_epoch_end(UNUSED, module)
    change(module.teacher.net)
    with pytest.raises(RuntimeError, match=message):
        check.on_train_epoch_end(UNUSED, module)
