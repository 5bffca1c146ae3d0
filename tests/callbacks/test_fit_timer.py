"""Seconds of a run that several processes train."""

import time

import pytest
from support import UNUSED

from kd.callbacks.fit_timer import FitTimer


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
