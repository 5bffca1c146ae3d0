"""Seconds and images of a run that several processes train."""

import time
from typing import ClassVar

import pytest
from support import UNUSED, configured

from kd.callbacks.fit_timer import FitTimer
from kd.training.run import run


def test_seconds_add_up_over_processes(monkeypatch):
    clock = iter([100.0, 130.0, 140.0, 500.0, 507.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    first, second = FitTimer(), FitTimer()
    first.on_train_start(UNUSED, UNUSED)
    saved = first.state_dict()  # a checkpoint after 30 s
    first.on_train_end(UNUSED, UNUSED)
    assert first.time_elapsed() == pytest.approx(40.0)
    second.load_state_dict(saved)
    second.on_train_start(UNUSED, UNUSED)
    second.on_train_end(UNUSED, UNUSED)
    assert second.time_elapsed() == pytest.approx(37.0)


class CountImages(FitTimer):
    """A second count, by the size of the batches that the training step receives."""

    seen: ClassVar[list[int]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.seen.append(len(batch.input))


@pytest.mark.parametrize("accumulated", [1, 4])
def test_images_are_counted_and_not_optimizer_steps(accumulated, output, tmp_path):
    count = "+callbacks.count={_target_: test_fit_timer.CountImages}"
    steps = f"+trainer.accumulate_grad_batches={accumulated}"
    CountImages.seen.clear()
    result = run(configured(tmp_path, output, "method=ce", count, steps), tmp_path)
    images = result["images_per_second"] * result["fit_seconds"]
    assert len(CountImages.seen) == 30  # three epochs of ten batches
    assert images == pytest.approx(sum(CountImages.seen), rel=1e-2)  # both are rounded


def test_images_of_a_resumed_run_add_up():
    first, second = FitTimer(), FitTimer()
    first.images = 640
    second.load_state_dict(first.state_dict())
    assert second.images == 640
