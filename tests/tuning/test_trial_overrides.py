"""Overrides of trials: quoting, and what a trial inherits from the command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kd.tuning.trial_overrides import merge_overrides, override, without_search


@pytest.mark.parametrize(
    "value", [3, 0.1, 1e-7, True, None, "kd", "true", "inf", "a b", "it's", "a,b", "x=y"]
)
def test_overrides_keep_value_and_type(value):
    (parsed,) = OverridesParser.create().parse_overrides([override("some.key", value)])
    found = parsed.value()
    assert (str(found), parsed.is_sweep_override()) == (str(value), False)
    assert type(getattr(found, "text", found)) is type(value)


def test_trials_inherit_all_overrides_but_those_of_the_search():
    given = ["method=dkd", "search=method", "search.trials=3", "~search.storage", "optimizer.lr=1"]
    base = without_search(given)
    assert base == ["method=dkd", "optimizer.lr=1"]
    assert merge_overrides(base, ["optimizer.lr=2"]) == ["method=dkd", "optimizer.lr=2"]
    assert merge_overrides(["+a=1", "~b"], ["a=2"]) == ["~b", "a=2"]
