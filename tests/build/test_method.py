"""Weights and temperatures that follow a method's schedules."""

import pytest
from support import composed

from kd.build.method import build_method
from kd.errors import UserError


def plan_of(*overrides):
    return build_method(composed(*overrides))


def test_schedule_of_alpha_moves_the_weight_of_the_labels():
    schedule = ["+schedule@method.schedules.alpha=until", "method.schedules.alpha.end=0.5"]
    _, plan = plan_of("method.alpha=0.9", *schedule)
    assert plan.weights(0.49) == pytest.approx({"hard": 0.1, "soft": 0.9})
    assert plan.weights(0.5) == {"hard": 1.0}
    _, plan = plan_of("method.alpha=1", *schedule)
    assert plan.weights(0.2) == {"soft": 1.0}
    assert plan.weights(0.8) == {"hard": 1.0}


def test_schedule_of_a_term_leaves_the_others_unchanged():
    _, plan = plan_of("method=at", "+schedule@method.schedules.attention=until")
    assert plan.weights(0.4) == {"hard": 1.0, "attention": 1000.0}
    assert plan.weights(0.6) == {"hard": 1.0}


def test_schedule_moves_the_weights_of_a_later_stage():
    _, plan = plan_of("method=fitnet", "+schedule@method.schedules.alpha=grow")
    assert plan.weights(0.1) == {"hint": 100.0}
    assert plan.weights(0.25) == {"hard": 1.0}
    assert plan.weights(0.625) == pytest.approx({"hard": 0.55, "soft": 0.45})
    assert plan.weights(1.0) == pytest.approx({"hard": 0.1, "soft": 0.9})


def test_weight_with_two_schedules_is_refused():
    both = [f"+schedule@method.schedules.{name}=grow" for name in ("alpha", "soft")]
    with pytest.raises(UserError, match=r"weights.soft is varied by 2 schedules: alpha, soft"):
        plan_of(*both)


def test_temperature_follows_its_schedule():
    schedule = ["+schedule@method.schedules.temperature=linear"]
    objectives, plan = plan_of(*schedule, "method.schedules.temperature.end=0.25")
    seen = []
    for progress in (0.0, 0.5, 1.0):
        plan.set_settings(objectives, progress)
        seen.append(objectives["soft"].temperature)
    assert seen == pytest.approx([4.0, 2.5, 1.0])
    assert plan.weights(1.0) == pytest.approx({"hard": 0.1, "soft": 0.9})


def test_shared_schedule_observes_each_validation_once():
    schedule = ["+schedule@method.schedules.alpha=until_plateau"]
    _, plan = plan_of(*schedule, "method.schedules.alpha.patience=2")
    seen = []
    for accuracy in (0.5, 0.5, 0.5):
        plan.observe(accuracy)
        seen.append(sorted(plan.weights(0.5)))
    assert seen == [["hard", "soft"], ["hard", "soft"], ["hard"]]
