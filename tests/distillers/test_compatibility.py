"""Checkpoints that do not fit the distiller."""

import pytest

from kd.distillers.compatibility import check_compatible
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.schedules import Linear

PLAN = Plan([Stage("hint", 0.5, {"hint": 1.0}), Stage("kd", 0.5, {"soft": Linear()})])
KEYS = {"student.fc.weight", "student.fc.bias"}


def checkpoint(**changes):
    content = {"state_dict": dict.fromkeys(KEYS), "stages": ["hint", "kd"]}
    return content | {"plan": PLAN.state_dict()} | changes


def test_matching_checkpoint_is_accepted():
    check_compatible(checkpoint(), KEYS, PLAN)


def test_missing_and_unexpected_weights_are_named():
    state = {"student.fc.weight": None, "student.head.bias": None}
    message = r"missing \['student.fc.bias'\], unexpected \['student.head.bias'\]; resume with"
    with pytest.raises(UserError, match=message):
        check_compatible(checkpoint(state_dict=state), KEYS, PLAN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ["kd"]}, r"has stages \['kd'\] and 1 schedules, the run has \['hint', 'kd'\]"),
        ({"plan": {"schedules": []}}, r"has stages \['hint', 'kd'\] and 0 schedules, .* and 1;"),
    ],
)
def test_other_stages_and_schedules_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_compatible(checkpoint(**changes), KEYS, PLAN)
