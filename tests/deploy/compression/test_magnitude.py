"""Magnitude pruning in training: the schedule, the zeros, and the files of the run."""

from itertools import pairwise

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from support import Losses, configured
from torch import nn

import kd
from kd.deploy.compression.magnitude import (
    MagnitudePruning,
    gzip_bytes,
    prunable_weights,
    scheduled_sparsity,
    sparsity,
)
from kd.training.run import run


class Zeros(Callback):
    """Records the zeros of the student after every step, and the smallest weight that is left."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.masks: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        flat = torch.cat([w.detach().flatten() for w in prunable_weights(pl_module.student)])
        self.seen.append(float((flat == 0).float().mean()))
        self.masks.append(flat == 0)


def pruned_run(tmp_path, *overrides, callbacks=()):
    folder = tmp_path / "run"
    cfg = configured(folder, tmp_path, "method=ce", "trainer.max_epochs=4", *overrides, teacher=())
    return folder, run(cfg, folder, callbacks=[MagnitudePruning(0.8), *callbacks])


def test_the_schedule_is_the_cubic_one():
    # Zhu & Gupta's figure 1: steep at first, flat at the end
    values = [scheduled_sparsity(p / 100, 0.9, 0.4) for p in range(101)]
    assert values[0] == 0
    assert values[10] == pytest.approx(0.9 * (1 - 0.75**3))
    assert values[40:] == [0.9] * 61
    rises = [b - a for a, b in pairwise(values[:41])]
    assert rises == sorted(rises, reverse=True)


def test_a_student_is_pruned_to_the_target_and_stays_so(tmp_path):
    zeros = Zeros()
    folder, result = pruned_run(tmp_path, callbacks=[zeros])
    assert zeros.seen == sorted(zeros.seen)
    assert all(not (a & ~b).any() for a, b in pairwise(zeros.masks))  # no weight returns
    assert 0 < zeros.seen[0] < 0.2
    half = len(zeros.seen) // 2
    assert zeros.seen[half - 1 :] == pytest.approx([0.8] * (half + 1), abs=1e-3)
    student = kd.load(folder)
    assert sparsity(student).fraction == pytest.approx(0.8, abs=1e-3)
    assert result["best_epoch"] > 2  # earlier epochs have fewer zeros
    file = folder / "student.safetensors"
    weights = load_file(file)
    assert not [name for name in weights if "mask" in name or "orig" in name]
    assert gzip_bytes(file.read_bytes()) < 0.6 * file.stat().st_size


def test_the_smallest_weights_of_the_whole_net_go():
    conv, linear = nn.Conv2d(1, 2, 2), nn.Linear(2, 4)
    net = nn.Sequential(conv, nn.Flatten(), linear)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1.0, 9).view(2, 1, 2, 2))
        linear.weight.copy_(-torch.arange(1.0, 9).view(4, 2) - 4.5)
    pruning = MagnitudePruning(0.5)
    pruning._weights = prunable_weights(net)
    pruning._masks = [weight != 0 for weight in pruning._weights]
    pruning._update(0.5)
    pruning._apply()
    # 1 … 8 and 5.5 … 12.5: the eight smallest are 1 … 6 and 5.5, 6.5
    assert conv.weight.flatten().tolist() == [0, 0, 0, 0, 0, 0, 7, 8]
    assert linear.weight.flatten().tolist() == [0, 0, -7.5, -8.5, -9.5, -10.5, -11.5, -12.5]


@pytest.mark.slow
def test_a_resumed_run_prunes_as_an_uninterrupted_one(tmp_path):
    whole, _ = pruned_run(tmp_path / "whole", callbacks=[Losses()])
    expected = list(Losses.seen)

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pruned_run(tmp_path / "parts", callbacks=[Stop()])
    folder, _ = pruned_run(tmp_path / "parts", callbacks=[Losses()])
    assert expected[-len(Losses.seen) :] == Losses.seen
    assert 0 < len(Losses.seen) < len(expected)
    first, second = (load_file(f / "student.safetensors") for f in (whole, folder))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("target", "ramp"), [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0)])
def test_impossible_shares_are_refused(target, ramp):
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        MagnitudePruning(target, ramp)
