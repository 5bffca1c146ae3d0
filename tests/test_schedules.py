"""Schedules at points computed by hand."""

import pytest

from kd.schedules import Between, Constant, Cosine, Linear, Step, Until, UntilPlateau


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
def test_values_by_hand(schedule, points):
    for progress, value in points.items():
        assert schedule(progress) == pytest.approx(value), progress


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(warmup=1.0), r"warmup must be a fraction of the run in \[0, 1\), got 1.0"),
        (lambda: Step([0.5, 0.2]), r"milestones must ascend within \(0, 1\), got \[0.5, 0.2\]"),
        (lambda: Step([150, 180]), "milestones must ascend"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_line_can_rise():
    grow = Linear(value=0.8, begin=0.0, end=1.0)
    assert [grow(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([0.0, 0.2, 0.8])


def test_until_is_zero_from_its_end():
    until = Until(value=3.0, end=0.4)
    assert [until(p) for p in (0.0, 0.399, 0.4, 1.0)] == [3.0, 3.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="end must be a fraction of the run"):
        Until(end=0.0)
    with pytest.raises(ValueError, match="end must be a fraction of the run"):
        Until(warmup=0.5, end=0.4)


def test_plateau_stays_at_zero():
    plateau = UntilPlateau(patience=2, min_delta=0.01)
    heights = []
    # gain, gain, within min_delta, fall, and a gain after the end
    for accuracy in (0.5, 0.6, 0.605, 0.55, 0.9):
        plateau.observe(accuracy)
        heights.append(plateau(0.5))
    assert heights == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_plateau_continues_from_its_state():
    first, second = (UntilPlateau(patience=2) for _ in range(2))
    for accuracy in (0.5, 0.4):
        first.observe(accuracy)
    second.load_state_dict(first.state_dict())
    for plateau in (first, second):
        plateau.observe(0.4)
    assert first.over
    assert second.over


def test_between_interpolates():
    between = Between(Linear(begin=0.0, end=1.0), low=1.0, high=0.1)
    assert [between(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])
