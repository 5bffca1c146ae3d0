"""A schedule varies exactly what an objective or a weight lets it vary, within its range."""

import pytest
from omegaconf import OmegaConf
from support import SHIPPED, composed

from kd.build.method import build_method
from kd.errors import UserError
from kd.validation.check import check_config
from kd.validation.method import check_objectives
from kd.validation.numbers import is_number
from kd.validation.schedules import refusal

HALF = {"_target_": "kd.schedules.Constant", "value": 0.5}
# Numbers of the methods that no schedule may vary; all others are weights or temperatures.
CONSTANT = {
    *["ab.initial", "ab.margin", "at.smallest_image", "catkd.grid", "cc.gamma", "cc.order"],
    *[
        "crd.contrast_temperature",
        "crd.momentum",
        "ctkd.lowest",
        "ctkd.ramp",
        "ctkd.span",
        "ctkd.theta",
        "cwd.map_temperature",
    ],
    *["dist.beta", "dist.gamma", "dkd.beta", "dkd.target_weight", "dkd.warmup", "fitnet.initial"],
    *["fsp.initial", "ft.initial", "ft.rate", "irg.edge", "irg.transition", "irg.vertex"],
    *["itrd.correlation", "itrd.mutual", "itrd.order", "mgd.masked", "mlkd.class_weight"],
    *[
        "mlkd.sample_weight",
        "nkd.gamma",
        "reviewkd.beta",
        "reviewkd.warmup",
        "rkd.angle",
        "rkd.distance",
    ],
    *["simkd.reduction", "srd.power", "srrl.matching", "srrl.regression", "tfkd.confidence"],
    *("vid.variance",),
}
FEW = ("crd", "cwd", "ttm", "dkd")


def numbers_of(objectives):
    """The numbers among the settings of all objectives."""
    return {
        (name, key): value
        for name, objective in objectives.items()
        for key, value in vars(objective).items()
        if is_number(value)
    }


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in sorted(SHIPPED)]
)
def test_every_setting_of_a_method_varies_as_declared_or_is_refused(name):
    cfg = composed(f"method={name}", *(["method.variant=project"] if name == "fsp" else []))
    OmegaConf.set_struct(cfg, False)
    cfg.method.alpha = 0.5 if cfg.method.get("alpha") == 0 else cfg.method.get("alpha")
    knobs = [k for k, v in cfg.method.items() if is_number(v)]
    for knob in knobs:
        reason = refusal(cfg, knob, check_objectives(cfg, []))
        assert bool(reason) == (f"{name}.{knob}" in CONSTANT), f"{knob}: {reason}"
        if reason:
            continue
        cfg.method.schedules = {knob: HALF}
        objectives, plan = build_method(cfg)
        before = numbers_of(objectives)
        plan.set_settings(objectives, 0.5)
        changed = {key for key, value in numbers_of(objectives).items() if before[key] != value}
        if knob == "temperature":
            ((term, key),) = changed
            assert key == "temperature"
            assert objectives[term].temperature == cfg.method.temperature / 2
        else:
            assert not changed, f"{knob} is a weight"
        del cfg.method.schedules


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=crd", "+schedule@method.schedules.temperature=linear"],
            r"temperature is a setting of soft, whose weight is 0; a schedule can vary hard, "
            r"contrast, beta",
        ),
        (
            ["method=crd", "+schedule@method.schedules.contrast_temperature=linear"],
            r"contrast_temperature sets method.objectives.contrast.temperature, which is constant",
        ),
        (
            ["method=ttm", "+schedule@method.schedules.temperature=linear"],
            r"takes temperature from 0 to 3.333: temperature must be a number > 0",
        ),
        (
            [
                *("method=ttm", "+schedule@method.schedules.temperature=linear"),
                "method.schedules.temperature.end=0.25",
            ],
            r"takes temperature from 0.8333 to 3.333: temperature must be ≥ 1, got 0.83",
        ),
        (
            ["+schedule@method.schedules.temperature=until_plateau"],
            r"takes temperature from 0 to 4: temperature must be a number > 0",
        ),
        (["method=at", "+schedule@method.schedules.soft=grow"], "the weight of soft is 0"),
        (["method=at", "+schedule@method.schedules.alpha=grow"], "alpha is 0, and a schedule"),
        (["+schedule@method.schedules.alpah=grow"], "no such term or knob; did you mean 'alpha'"),
        (
            ["+schedule@method.schedules.alpha=constant", "method.schedules.alpha.value=2"],
            r"the weight of hard would fall to -0.8",
        ),
        (
            ["+schedule@method.schedules.soft=linear", "method.schedules.soft.end=-1"],
            r"the weight of soft would fall to -0.9",
        ),
        (
            ["method=reviewkd", "+schedule@method.schedules.review=grow"],
            "the weight of review has a schedule already",
        ),
        (
            ["method=dkd", "+schedule@method.schedules.warmup=grow"],
            "warmup is a setting of a sched",
        ),
    ],
)
def test_refused_schedules(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


def test_each_pairing_has_the_scheduled_temperature():
    """Modes with several pairings have a copy of each objective for each of them."""
    cfg = composed("method=kd")
    OmegaConf.set_struct(cfg, False)
    cfg.method.schedules = {"temperature": HALF}
    objectives, plan = build_method(cfg)
    others = build_method(cfg).objectives
    terms = {"peer1/soft": objectives["soft"], "peer2/soft": others["soft"]}
    for _ in range(2):  # the configured value is kept
        plan.set_settings(terms, 0.3)
        assert [term.temperature for term in terms.values()] == [2.0, 2.0]


def test_other_objectives_keep_their_temperature():
    """The contrast's temperature and the soft targets' have one name and two meanings."""
    cfg = composed("method=crd", "method.alpha=0.5")
    OmegaConf.set_struct(cfg, False)
    cfg.method.schedules = {"temperature": HALF}
    objectives, plan = build_method(cfg)
    plan.set_settings(objectives, 1.0)
    assert objectives["soft"].temperature == 2.0
    assert objectives["contrast"].temperature == 0.07
    assert plan.weights(0.5)["contrast"] == 0.8
