"""`kd.losses` offers every method's formula as a function, without an import of torch at first."""

import doctest
import inspect
import subprocess
import sys

import pytest
import torch
from support import SHIPPED, read_yaml

from kd import losses
from kd.config.compose import CONF_DIR
from kd.objectives import VARIANTS

NAMES = losses.__all__


def test_every_method_has_a_function():
    assert set(NAMES) >= {"kd", "soft_ce"}
    assert set(NAMES) <= set(dir(losses))
    with pytest.raises(AttributeError, match=r"module 'kd\.losses' has no attribute 'base'"):
        _ = losses.base


def test_functions_are_imported_when_they_are_read():
    code = (
        "import sys; from kd import losses; assert 'torch' not in sys.modules; "
        "losses.kd; assert 'torch' in sys.modules; assert 'kd.objectives.crd' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_named_and_documented(name):
    function = getattr(losses, name)
    assert inspect.isfunction(function)
    assert function.__name__ == VARIANTS.get(name, name) or function.__name__ == name
    assert function.__doc__, f"kd.losses.{name} has no docstring"
    if name in SHIPPED:
        for part in ("Args:", "Returns:", "Example:", "Reference:"):
            assert part in function.__doc__, f"the docstring of kd.losses.{name} lacks {part!r}"
        assert doctest.DocTestFinder().find(function)[0].examples
    if name in SHIPPED - {"ce"}:
        assert "https://" in function.__doc__.partition("Reference:")[2]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_the_command_line(name):
    """Settings come after the tensors, and those that the method's YAML has are named as there."""
    config = read_yaml(CONF_DIR / "method" / f"{name}.yaml")
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    settings = [p for p in parameters if p.default is not inspect.Parameter.empty]
    for parameter in settings:
        knob = config.get(parameter.name, parameter.default)
        if "${" not in str(knob):
            assert parameter.default == (tuple(knob) if isinstance(knob, list) else knob)


@pytest.mark.parametrize("name", sorted(SHIPPED & {*NAMES}))
def test_half_precision_gives_a_float32_scalar(name):
    parameters = inspect.signature(getattr(losses, name)).parameters
    if list(parameters)[:2] != ["student_logits", "teacher_logits"]:
        pytest.skip("not a function of logits")
    target = {"target": torch.tensor([0, 2, 1])} if "target" in parameters else {}
    value = getattr(losses, name)(
        torch.randn(3, 4, dtype=torch.bfloat16), torch.randn(3, 4, dtype=torch.bfloat16), **target
    )
    assert value.shape == ()
    assert value.dtype == torch.float32
