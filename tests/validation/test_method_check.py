"""Weights, objectives and schedules of a method fit together."""

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=feature", "method.beta=0.5"], r"weights.hard=-0.2: must be ≥ 0 \(alpha \+ beta"),
        (["+method.weights.sotf=1"], "weights.sotf names no objective; did you mean 'soft'"),
        (["~method.weights.soft"], "method.objectives.soft has no weight; add method.weights.soft"),
        (["method.weights.hard=0", "method.weights.soft=0"], "weights are all 0"),
        (["method.weights.soft=heavy"], "method.weights.soft=heavy: must be a number"),
        (["method=at", "method.variant=papr"], "variant must be one of .*got 'papr'"),
        (["method=at", "method.taps=[]"], "the two nets have no stage in common"),
        (["method=datafree", "method.alpha=0"], "no term of a weight other than 0 reads the teach"),
        (["method=dkd", "data/augment=mixup"], "data/augment: MixUp mixes labels"),
    ],
)
def test_mistakes_of_a_method_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "64"])
def test_weights_in_another_format_are_refused_beside_a_teacher(precision):
    message = f"trainer.precision={precision}: keeps weights in another format than float32"
    with pytest.raises(UserError, match=message):
        check_config(composed("method=crd", f"trainer.precision={precision}"))
    check_config(composed("method=ce", f"trainer.precision={precision}"))
