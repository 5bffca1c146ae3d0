"""Configs of trials: defaults, and values that no run can have."""

from typing import Any

import pytest
from hydra import compose
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from searches import RATE, SETTINGS

from kd.config.compose import CONF_DIR, plain
from kd.errors import UserError
from kd.tuning.identity import search_identity, study_name
from kd.tuning.space import Space, contains, read_space
from kd.tuning.trial_configs import check_space, default_values, trial_config


@pytest.mark.usefixtures("config_path")
def test_defaults_come_from_the_config_and_the_command_line():
    space: Space = {
        "method": CategoricalDistribution(("kd", "dkd")),
        "method.temperature": IntDistribution(1, 9),
        **RATE,
    }
    expected = {"method": "dkd", "method.temperature": 4.0, "optimizer.lr": 0.2}
    base = ["paths.run=run", "method=dkd", "optimizer.lr=0.2"]
    assert default_values(space, base) == expected


@pytest.mark.usefixtures("config_path")
@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"method.temprature": FloatDistribution(1, 2)}, "'temprature'; .*temperature"),
        (
            {"optimizer.lrr": FloatDistribution(1, 2)},
            "'optimizer.lrr'.*did you mean 'optimizer.lr'",
        ),
        ({"metod": CategoricalDistribution(("kd",))}, "'metod'.*did you mean 'method'"),
        ({"method": CategoricalDistribution(("kd", "dkdd"))}, "method=dkdd: .*did you mean 'dkd'"),
        ({"method.alpha": FloatDistribution(0, 2)}, "method.alpha=2.0: must be in"),
        (
            {
                "method.alpha": FloatDistribution(0, 1),
                "method": CategoricalDistribution(("kd", "ttm")),
            },
            "method=ttm has no 'alph",
        ),
        (
            {"method.temperature": CategoricalDistribution((1, "hot"))},
            "method.temperature=hot: must be a number",
        ),
    ],
)
@pytest.mark.slow
def test_values_that_no_run_can_have_are_reported_before_the_search(space, message):
    with pytest.raises(UserError, match=f"(?s)^search.space, .*{message}"):
        check_space(space, ["paths.run=run"])


@pytest.mark.slow
@pytest.mark.usefixtures("config_path")
@pytest.mark.parametrize("name", [path.stem for path in (CONF_DIR / "search").glob("*.yaml")])
def test_the_spaces_of_the_config_group_are_valid(name):
    base = ["paths.run=run", *(["data=digits_scenes"] if name == "detection" else [])]
    cfg = compose("search", [f"search={name}", *base])
    space = read_space(plain(cfg.search.space))
    check_space(space, base)
    defaults = default_values(space, base)
    assert all(contains(space[key], value) for key, value in defaults.items())


@pytest.mark.usefixtures("config_path")
def test_a_search_is_its_default_config_its_space_its_seed_and_its_pruning():
    default, other = (trial_config(["paths.run=run"], o) for o in ([], ["optimizer.lr=0.1"]))
    wider: Space = {"optimizer.lr": FloatDistribution(0.001, 0.4, log=True)}
    pruning = {"startup": 9, "warmup": 0}

    def name(cfg: DictConfig, space: Space, **settings: Any) -> str:
        return study_name(search_identity(cfg, space, SETTINGS | settings))

    assert name(default, dict(RATE)) == name(default, RATE, trials=99, heartbeat=5, storage="x")
    different = [name(default, RATE), name(other, RATE), name(default, wider)]
    different += [name(default, RATE, seed=1), name(default, RATE, pruning=pruning)]
    assert len({*different}) == 5


@pytest.mark.usefixtures("config_path")
@pytest.mark.slow
def test_a_range_with_an_end_that_is_refused_can_be_narrowed_as_the_message_says():
    words = ["paths.run=run", "optimizer=dot"]
    space: Space = {"method.alpha": FloatDistribution(0, 1), **RATE}
    narrower = "search.space={method.alpha: {low: 0.05, high: 0.95}}"
    with pytest.raises(UserError, match=f"narrow the range, as '{narrower}'$"):
        check_space(space, words)
    cfg = compose("search", ["search=hinton", narrower])
    check_space(read_space(plain(cfg.search.space)), words)
