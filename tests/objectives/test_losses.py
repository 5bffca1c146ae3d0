"""`kd.losses` offers every method's formula as a function, without an import of torch at first."""

import doctest
import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import make_batch
from support import SHIPPED, TEXT_METHODS, TEXT_NETS, composed, read_yaml

from kd import losses
from kd.build.method import build_method
from kd.config.compose import CONF_DIR
from kd.objectives import VARIANTS
from kd.objectives.setting import Setting
from kd.types import Outputs

NAMES = losses.__all__
TAPS = ("stage1", "stage2", "stage3")  # of the default nets


def test_every_method_has_a_function():
    assert set(NAMES) >= SHIPPED
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


def tensors(name: str) -> dict[str, Any] | None:
    """Arguments without defaults of `kd.losses.name`, by their names; None for unknown names."""
    torch.manual_seed(0)

    def maps():
        return torch.randn(6, 4, 3, 3)

    made = {
        "logits": lambda: torch.randn(6, 4),
        "map": maps,
        "maps": lambda: [maps() for _ in TAPS],
        "embedding": lambda: torch.nn.functional.normalize(torch.randn(6, 4), dim=1),
        "negatives": lambda: torch.nn.functional.normalize(torch.randn(9, 4), dim=1),
        "factor": maps,
        "weight": lambda: torch.randn(5, 4),
        "target": lambda: torch.randint(4, (6,)),
        "theta": lambda: torch.tensor(1.0),
        "scores": lambda: [torch.randn(6, 4) for _ in TAPS],
        "generator": lambda: torch.nn.Identity(),
        "margins": lambda: [torch.full((1, 4, 1, 1), -0.5) for _ in TAPS],
        "alphas": lambda: [torch.zeros(4) for _ in TAPS],
        "pairs": lambda: [[(maps(), maps()), (maps(), maps())]],
        "attention": lambda: torch.full((6, 1, 2), 0.5),
    }
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    kinds = [argument.rpartition("_")[2] for argument in needed]
    if not made.keys() >= {*kinds}:
        return None
    return {argument: made[kind]() for argument, kind in zip(needed, kinds, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_results_are_scalars_and_half_precision_is_computed_in_float32(name):
    arguments = tensors(name)
    if arguments is None:
        assert name not in SHIPPED
        pytest.skip("its arguments have names of their own")
    value = getattr(losses, name)(**arguments)
    assert value.shape == ()
    assert value.isfinite()
    if name in SHIPPED:
        value = getattr(losses, name)(**{k: half(v) for k, v in arguments.items()})
        assert value.dtype == torch.float32
        assert value.isfinite()


def half(argument):
    if isinstance(argument, list | tuple):
        return type(argument)(map(half, argument))
    floating = isinstance(argument, torch.Tensor) and argument.is_floating_point()
    return argument.bfloat16() if floating else argument


def term(name):
    """The objective of a method, with the settings of its YAML."""
    cfg = composed(*(TEXT_NETS if name in TEXT_METHODS else ()), f"method={name}")
    objectives, _ = build_method(cfg)
    module = f"kd.objectives.{VARIANTS.get(name, name)}"
    own = [o for o in objectives.values() if type(o).__module__ == module]
    return own[0] if len(own) == 1 else None


# Arguments that an objective without adapters takes from the nets or the batch as they are
READ = {"logits", "map", "maps", "embedding", "target"}


@pytest.mark.parametrize("name", NAMES)
def test_functions_equal_the_objectives_without_adapters(name):
    """With the settings of the method's YAML, on the same tensors."""
    function, objective = getattr(losses, name), term(name)
    arguments = tensors(name) or {}
    kinds = {argument.rpartition("_")[2] for argument in arguments or ["unknown"]}
    if objective is None or objective.copies_head or not kinds <= READ:
        pytest.skip("it has adapters")
    student, teacher = (net_outputs(role, arguments, objective) for role in ("student", "teacher"))
    if student.taps.keys() != {*objective.student_taps}:
        pytest.skip("it has adapters")
    labels = torch.arange(40) % 4
    objective.build(student, teacher, Setting(4, labels, None, None))
    if list(objective.parameters()):
        pytest.skip("it has adapters")
    batch = make_batch(arguments.get("target", labels[:6]))
    torch.testing.assert_close(function(**arguments), objective(student, teacher, batch))


def net_outputs(role, arguments, objective):
    """The arguments of one net as its outputs, at the taps that the objective reads."""
    taps = list(getattr(objective, f"{role}_taps"))
    found: dict[str, torch.Tensor] = {}
    for kind in ("maps", "map", "embedding"):
        value = arguments.get(f"{role}_{kind}", ())
        for tensor in [value] if isinstance(value, torch.Tensor) else value:
            found[taps[len(found)]] = tensor
    return Outputs(arguments.get(f"{role}_logits", torch.zeros(6, 4)), found)
