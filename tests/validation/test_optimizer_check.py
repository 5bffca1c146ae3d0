"""Optimizers with a momentum for each part of the loss: what they combine with, and refusals."""

import pytest
from support import BOX_METHODS, TEXT_METHODS, TEXT_NETS, composed

from kd.config.compose import CONF_DIR
from kd.errors import UserError
from kd.training.controls import apply_control
from kd.validation.check import check_config
from kd.validation.method import check_objectives
from kd.validation.optimizer import optimizer_problems

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))
# Without a term of the labels alone, or of a teacher alone
ONE_GRADIENT = {"ce", "norm", "simkd"}
# No divergence of all classes is among their terms
NO_PARTS = {
    *("cosine", "dist", "logit_mse", "tfkd", "pkd_features", "deit", "hsakd"),
    *("abkd", "normkd", "rld", "sdd", "wkd_l", *BOX_METHODS),
}
QUICK = {"ce", "kd", "dist", "fitnet", "mlkd", "pkd", "spherical"}


@pytest.mark.parametrize(
    "method", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
def test_every_method_with_a_soft_term(method):
    """With both optimizers; methods of features have soft targets with an alpha above 0."""
    nets = TEXT_NETS if method in TEXT_METHODS else ()
    cfg = composed(f"method={method}", "optimizer=dot", *nets)
    if cfg.method.get("alpha") in (0, 1):
        cfg.method.alpha = 0.5
    problems: list[str] = []
    objectives = check_objectives(cfg, problems)
    dot = [*optimizer_problems(cfg, objectives)]
    assert not problems
    assert bool(dot) == (method in ONE_GRADIENT), dot
    cfg.optimizer._target_ = "kd.optimizers.deepkd.DeepKD"
    deepkd = [*optimizer_problems(cfg, objectives)]
    assert bool(deepkd) == (method in ONE_GRADIENT | NO_PARTS), deepkd


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=ce", "optimizer=dot"], "method=ce has no term besides that of the labels"),
        (["method.alpha=1", "optimizer=dot"], "method=kd has no term of the labels"),
        (["method=norm", "optimizer=dot"], "method=norm has no term of the labels alone; .*sgd$"),
        (["method=dist", "optimizer=deepkd"], "no term of method=dist has these parts; .*dot"),
        (
            ["method.variant=reverse", "optimizer=deepkd"],
            "optimizer=dot, or method.variant=forward",
        ),
        (["optimizer=dot", "trainer.precision=16-mixed"], "use trainer.precision=bf16-mixed"),
        (["optimizer=deepkd", "trainer.gradient_clip_val=1"], "gradient_clip_val=1: .*no single"),
        (["optimizer=dot", "compile=default"], "compile=default: optimizer=dot goes backward"),
        (["optimizer=deepkd", "data/augment=mixup"], "MixUp mixes labels, and optimizer"),
        (
            ["optimizer@teacher.training.optimizer=dot"],
            "labels alone; leave it as optimizer@teacher.training.optimizer=sgd",
        ),
        (
            ["optimizer=dot", "data.labels=false", "method.alpha=1"],
            "use optimizer=sgd\n.*optimizer=dot has a momentum for the gradient of labels, and",
        ),
        (["optimizer=dot", "optimizer.delta=0.2"], "momentum of distillation must be in .*1.1"),
        (["optimizer=deepkd", "optimizer.first=0.7"], "0 < first ≤ middle ≤ 1 must hold"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        check_config(composed(*overrides))


def test_a_control_is_named_in_place_of_the_method_that_it_replaces():
    cfg = composed("control=ce", "optimizer=deepkd")
    apply_control(cfg)
    with pytest.raises(UserError, match="control=ce has no term besides that of the labels"):
        check_config(cfg)
