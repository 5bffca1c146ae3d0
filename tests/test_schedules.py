"""Schedules at points computed by hand."""

import pytest

from kd.schedules import Constant, Cosine, Linear, Step


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(0.3), {0: 0.3, 0.5: 0.3, 1: 0.3}),
        (Constant(2.0, warmup=0.2), {0: 0, 0.1: 1.0, 0.2: 2.0, 1: 2.0}),
        (Linear(1.0), {0: 1, 0.25: 0.75, 1: 0}),
        (Linear(2.0, end=0.5), {0: 2, 0.5: 1.5, 1: 1}),
        (Linear(1.0, warmup=0.5), {0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0}),
        (Cosine(1.0), {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
        (Cosine(4.0, warmup=0.5, end=0.1), {0.25: 2, 0.5: 4, 0.75: 2.2, 1: 0.4}),
        (Step([0.5, 0.75]), {0: 1, 0.49: 1, 0.5: 0.1, 0.75: 0.01, 1: 0.01}),
        (Step([0.5], gamma=0.5, value=8, warmup=0.25), {0.125: 4, 0.3: 8, 0.6: 4}),
    ],
)
def test_values(schedule, points):
    for progress, value in points.items():
        assert schedule(progress) == pytest.approx(value), progress


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(warmup=1.0), r"warmup must be a share of the run in \[0, 1\), got 1.0"),
        (lambda: Step([0.5, 0.2]), r"milestones must ascend within \(0, 1\), got \[0.5, 0.2\]"),
        (lambda: Step([150, 180]), "milestones must ascend"),
    ],
)
def test_constructors_refuse_nonsense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
