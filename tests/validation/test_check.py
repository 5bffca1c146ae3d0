"""All mistakes of a config are found before a run, at once."""

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config, config_problems


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["teacher.training.optimizer.lr=-2"], "teacher.training.optimizer: Invalid.*-2"),
        (["scheduler.warmup=2"], "scheduler: warmup must be a fraction"),
        (["data=image_folder"], "data.root has no value; give it as data.root=…"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(UserError, match=r"(?s)2 mistakes.*temperature=-1.*alpha=7"):
        check_config(composed("method.temperature=-1", "method.alpha=7"))


@pytest.mark.parametrize("override", ["seed=0..4", "trainer.max_epochs=ten"])
def test_one_wrong_value_is_one_mistake(override):
    assert len(config_problems(composed(override))) == 1


def test_the_method_of_a_checked_config_is_the_configured_one():
    method = check_config(composed("method=kd", "method.alpha=0.25")).method
    assert sorted(method.objectives) == ["hard", "soft"]
    assert method.plan.weights(0.0) == {"hard": 0.75, "soft": 0.25}


def test_an_objective_of_weight_0_is_checked_but_left_out():
    at = ("method=at", "method.beta=0")
    assert "attention" not in check_config(composed(*at)).method.objectives
    with pytest.raises(UserError, match="variant must be one of"):
        check_config(composed(*at, "method.variant=papr"))
