"""Stages of a run and the weights of the terms at a run's progress."""

import pytest

from kd.distillers.stages import Plan, Stage
from kd.schedules import Constant, Linear


def test_weight_follows_a_schedule_of_progress():
    plan = Plan([Stage("", 1.0, {"hard": 1.0, "soft": Linear(2.0)})])
    assert plan.weights(0.0) == {"hard": 1.0, "soft": 2.0}
    assert plan.weights(0.4) == {"hard": 1.0, "soft": pytest.approx(1.2)}
    assert plan.weights(1.0) == {"hard": 1.0}  # absent, not zero


def test_consecutive_stages_have_their_own_schedules():
    first = Stage("first", 0.25, {"hint": Linear(8.0)})
    plan = Plan([first, Stage("second", 0.75, {"hard": 1.0, "soft": Constant(2.0, warmup=0.5)})])
    assert plan.at(0.0) == (first, 0.0)
    stage, progress = plan.at(0.2)
    assert stage == first
    assert progress == pytest.approx(0.8)
    assert plan.at(0.25)[0].name == "second"
    assert plan.at(0.625)[1] == pytest.approx(0.5)
    assert plan.at(1.0)[1] == 1.0
    assert plan.weights(0.125) == {"hint": pytest.approx(4.0)}
    assert plan.weights(0.25) == {"hard": 1.0}
    assert plan.weights(0.4375) == {"hard": 1.0, "soft": pytest.approx(1.0)}


def test_single_term_is_kept_at_weight_zero():
    assert Plan([Stage("", 1.0, {"soft": Constant(1.0, warmup=0.1)})]).weights(0.0) == {"soft": 0.0}


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.5, -0.5), (0.7, 0.7)])
def test_fractions_that_do_not_sum_to_one_are_refused(fractions):
    with pytest.raises(ValueError, match="stage fractions must be > 0 and sum to 1, got"):
        Plan([Stage(str(n), fraction, {"hard": 1.0}) for n, fraction in enumerate(fractions)])
