"""Callbacks on their own: what they decide, without a run."""

import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd.callbacks.checkpoint import Checkpoints
from kd.callbacks.divergence import StopOnDivergence
from kd.callbacks.frozen_teacher import FrozenTeacherCheck
from kd.errors import UserError
from kd.io.atomic import write_atomic
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


def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    codes = []
    monkeypatch.setattr("os._exit", codes.append)
    keeper = Checkpoints(tmp_path)
    keeper._ask(signal.SIGINT, None)
    assert codes == []
    keeper._ask(signal.SIGINT, None)
    assert codes == [130]


@pytest.mark.parametrize(
    ("scores", "best"), [((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 3), ((0.0, 0.0), 2)]
)
def test_of_equal_scores_the_later_is_kept(scores, best, tmp_path):
    keeper, saved = Checkpoints(tmp_path), []

    def save(path):
        saved.append(path.name)
        write_atomic(path, str(len(saved)).encode())  # as Lightning does, through our plugin

    for epoch, score in enumerate(scores):
        trainer = SimpleNamespace(
            callback_metrics={"val/acc": torch.tensor(score)},
            current_epoch=epoch,
            save_checkpoint=save,
            is_global_zero=True,
            sanity_checking=False,
            loggers=[],
        )
        keeper.on_validation_end(trainer, None)
        keeper.on_train_epoch_end(trainer, None)
    assert (keeper.best_epoch, keeper.best_score) == (best, pytest.approx(max(scores)))
    assert (tmp_path / "checkpoints" / "best.ckpt").read_text() == str(best)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == str(len(scores))


class Nets(Teacher):
    """A teacher of one net, which a test may spoil."""

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
    ("spoil", "message"),
    [
        (lambda net: net.train(), "no longer frozen: in training mode .*'the net', '0', '1'"),
        (lambda net: net[0].weight.requires_grad_(True), "with gradients .*'0.weight'"),
        (lambda net: net[1].running_mean.add_(1e-6), "buffers changed during the epoch"),
    ],
)
def test_a_teacher_that_moved_is_noticed(spoil, message):
    module, guard = SimpleNamespace(teacher=Nets()), FrozenTeacherCheck()
    guard.on_train_start(None, module)
    guard.on_train_epoch_end(None, module)
    spoil(module.teacher.net)
    with pytest.raises(RuntimeError, match=message):
        guard.on_train_epoch_end(None, module)
