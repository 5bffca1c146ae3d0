"""Mode and method find in the data what they read."""

from types import SimpleNamespace

import pytest
from support import composed

from kd.data.base import Limits
from kd.errors import UserError
from kd.validation.check import check_config
from kd.validation.data import refuse_unsupported


def data(**different):
    facts = {"name": "two", "num_classes": 3, "mixes": False, "limits": Limits()}
    return SimpleNamespace(**facts | different)


@pytest.mark.parametrize(
    "overrides", [["method=normkd"], ["method=kd", "method.standardise=true"], ["method=abkd"]]
)
def test_standardised_logits_of_two_classes_are_refused(overrides):
    checked = check_config(composed(*overrides))
    refuse_unsupported(checked.cfg, data(), checked.method)
    if overrides == ["method=abkd"]:
        refuse_unsupported(checked.cfg, data(num_classes=2), checked.method)
        return
    with pytest.raises(UserError, match=r"soft standardises logits, and those of two .* are ±0.71"):
        refuse_unsupported(checked.cfg, data(num_classes=2), checked.method)


def test_a_memory_that_does_not_hold_a_batch_is_refused():
    checked = check_config(composed("method=rrd", "method.memory=16"))
    refuse_unsupported(checked.cfg, data(batch_size=16), checked.method)
    with pytest.raises(UserError, match=r"relations keeps 16 .* data\.batch_size=17; raise method"):
        refuse_unsupported(checked.cfg, data(batch_size=17), checked.method)


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["optimizer=deepkd"], "optimizer=deepkd"),
        (["teacher=ensemble", "teacher.weighting=confidence"], "teacher.weighting=confidence"),
        (["method=dkd"], "method.objectives.decoupled"),
    ],
)
def test_targets_that_are_probabilities_are_no_labels(overrides, place):
    checked = check_config(composed(*overrides))
    refuse_unsupported(checked.cfg, data(), checked.method)
    with pytest.raises(UserError, match=f"{place} reads labels, and the targets of data 'two'"):
        refuse_unsupported(checked.cfg, data(mixes=True), checked.method)


def test_a_cache_of_images_without_a_finite_set_of_views_is_refused():
    checked = check_config(composed("method=kd", "teacher.cache.mode=on"))
    endless = data(limits=Limits(cache="MixUp has no finite set of views"))
    with pytest.raises(UserError, match="cache=on: MixUp has no finite set of views"):
        refuse_unsupported(checked.cfg, endless, checked.method)
    alone = check_config(composed("method=ce", "teacher.cache.mode=on"))
    refuse_unsupported(alone.cfg, endless, alone.method)
