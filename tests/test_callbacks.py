"""Callbacks on their own: what they decide, without a run."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd.callbacks import StopOnDivergence, TeacherUnchanged
from kd.errors import UserError
from kd.teachers.base import Teacher


def feed(callback: StopOnDivergence, *losses: dict[str, float]) -> None:
    callback.on_train_start(None, None)
    for step, terms in enumerate(losses, start=1):
        outputs = {"loss": torch.tensor(1.0)}
        outputs["terms"] = {name: torch.tensor(value) for name, value in terms.items()}
        trainer = SimpleNamespace(global_step=step)
        callback.on_train_batch_end(trainer, None, outputs, None, step)


def test_finite_losses_pass():
    feed(StopOnDivergence(), *[{"hard": 1.0, "soft": 1e30}] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_step_and_the_term_are_named(bad):
    with pytest.raises(UserError, match=r"not finite: 'soft' \(step 2\)\. Lower"):
        feed(StopOnDivergence(), {"hard": 1.0, "soft": 1.0}, {"hard": 1.0, "soft": bad})


class Nets(Teacher):
    """A teacher of one net, which a test may spoil."""

    answers, forwards, seconds, head = "live", 0, 0.0, None

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.net.requires_grad_(False)
        self.eval()

    @property
    def nets(self):
        return [self.net]

    def trace(self, batch): ...
    def probe(self, images): ...
    def prepare(self, loader, index, report): ...


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda net: net.train(), "no longer frozen: in training mode .*'the net', '0', '1'"),
        (lambda net: net[0].weight.requires_grad_(True), "with gradients .*'0.weight'"),
        (lambda net: net[1].running_mean.add_(1e-6), "buffers changed during the epoch"),
    ],
)
def test_a_teacher_that_moved_is_noticed(spoil, message):
    module, guard = SimpleNamespace(teacher=Nets()), TeacherUnchanged()
    guard.on_train_start(None, module)
    guard.on_train_epoch_end(None, module)
    spoil(module.teacher.net)
    with pytest.raises(RuntimeError, match=message):
        guard.on_train_epoch_end(None, module)
