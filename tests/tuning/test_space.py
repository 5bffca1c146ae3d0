"""Search spaces: distributions, their values, and mistakes in them."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kd.errors import UserError
from kd.tuning.search_settings import check_settings
from kd.tuning.space import contains, read_space


def test_a_space_is_read_as_distributions():
    space = read_space(
        {
            "method.temperature": {"low": 1, "high": 20, "step": 1},
            "method.alpha": {"low": 0, "high": 1},
            "optimizer.lr": {"low": 1e-3, "high": 0.3, "log": True},
            "optimizer.momentum": {"low": 0, "high": 0.9, "step": 0.3},
            "method": ["kd", "dkd"],
        }
    )
    assert space == {
        "method.temperature": IntDistribution(1, 20, step=1),
        "method.alpha": FloatDistribution(0, 1),
        "optimizer.lr": FloatDistribution(1e-3, 0.3, log=True),
        "optimizer.momentum": FloatDistribution(0, 0.9, step=0.3),
        "method": CategoricalDistribution(("kd", "dkd")),
    }


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        (IntDistribution(1, 20), [1, 4, 4.0, 20], [0, 4.5, 21, None, "4"]),
        (FloatDistribution(0, 1), [0, 0.5, 1], [1.5, -0.1, None, True, float("nan")]),
        (FloatDistribution(0, 0.9, step=0.3), [0.3, 0.6, 0.9], [0.45, 1.2]),
        (CategoricalDistribution(("kd", None, 2)), ["kd", None, 2, 2.0], ["dkd", 3]),
        (CategoricalDistribution((True, False)), [True, False], [1, 0]),
    ],
)
def test_values_are_inside_or_outside_a_distribution(part, inside, outside):
    assert all(contains(part, value) for value in inside)
    assert not any(contains(part, value) for value in outside)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"low": 1, "high": 1}, "low must be < high, got 1 and 1"),
        ({"low": 2, "high": 1}, "low must be < high"),
        ({"low": 0, "high": 1, "log": True}, "`low > 0` must hold for `log=True`"),
        ({"low": "a", "high": 1}, "low must be a number, got 'a'"),
        ({"low": 0, "high": float("inf")}, "high must be a number, got inf"),
        ({"low": 0, "high": 1, "log": "yes"}, "log must be true or false"),
        ({"low": 1, "high": 10, "log": True, "step": 1}, "log and step exclude each other"),
        ({"low": 0, "high": 1, "step": 0.3}, "step must divide high - low, got 0.3 for 0 to 1"),
        ({"low": 0, "high": 1, "step": -1}, "`step > 0` must hold"),
        ({"low": 0, "high": 1, "step": 0}, "`step > 0` must hold"),
        ({"low": 0}, "a range needs low and high"),
        ({"low": 0, "hihg": 1}, "no 'hihg'; did you mean 'high'"),
        (4, "must be {low: …, high: …} or a list of choices, got 4"),
        ([], "choices must be given"),
        (["kd", "kd"], "and differ"),
        ([1, True], "and differ"),
        ([["stage1"]], r"a choice must be a plain value, got \['stage1'\]"),
    ],
)
def test_mistakes_in_a_space_are_named(part, message):
    with pytest.raises(UserError, match=f"search.space, optimizer.lr: .*{message}"):
        read_space({"optimizer.lr": part})


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(UserError, match=r"(?s)search\.space, a: .*search\.space, b: "):
        read_space({"a": 4, "b": []})


@pytest.mark.parametrize("space", [{}, None])
def test_an_empty_space_is_refused(space):
    with pytest.raises(UserError, match=r"search\.space is empty"):
        read_space(space)


def test_settings_of_pruning_are_needed():
    settings = {"trials": 5, "seed": 0, "heartbeat": 1, "storage": None, "pruning": None}
    with pytest.raises(UserError, match=r"search\.pruning=null: has the keys startup and warmup"):
        check_settings(settings)
