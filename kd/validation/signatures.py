"""Checks of every `_target_`: it has its place's base class, and takes the arguments beside it."""

import inspect
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from torch import Tensor

from kd.build.instantiate import root_cause
from kd.config.targets import (
    SLOTS,
    Place,
    check_class,
    dotted,
    is_target,
    resolve_target,
    slot_of,
)
from kd.errors import nearest

# Stands for all keywords in the parameters of a target that takes any.
ANY = "**"
# Slots whose node is built if there is one; others also hold numbers, or parts given as objects.
_BUILT = ("callbacks.*", "logger.*", "method.objectives.*", "method.schedules.*", "data.augment")
# Slots whose class gets further arguments from the run, such as the student
_DISTILLERS = ("method.distiller", "mode.distiller")
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def target_problems(node: Any, at: Place = ()) -> Iterator[str]:
    """Find targets that cannot be called, and arguments that they do not take.

    Args:
        node: plain content of a config, at any depth.
        at: the node's place in the config.
    """
    slot = slot_of(at)
    if is_target(node):
        yield from _target(node, dotted(at), slot)
    elif slot in _BUILT and node:
        yield f"{dotted(at)}: has no _target_, the name of a subclass of {SLOTS[slot]}"
    if isinstance(node, dict):
        for key, value in node.items():
            yield from target_problems(value, (*at, str(key)))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from target_problems(value, (*at, str(position)))


def _target(node: dict[str, Any], place: str, slot: str | None) -> Iterator[str]:
    name = str(node["_target_"])
    try:
        target = resolve_target(name)
        if slot is not None:
            check_class(target, slot)
        parameters = _parameters(target)
        if slot in _DISTILLERS:
            parameters = _without_parts_of_the_run(parameters)
    except Exception as error:  # importing a module runs its code, which may raise anything
        yield f"{place}._target_={name}: {root_cause(error)}"
        return
    for key, value in node.items():
        if key in _HYDRA_KEYS:
            continue
        if key in parameters:
            if not _is_a(value, parameters[key]):
                yield f"{place}.{key}={value}: must be {_name(parameters[key])}"
        elif ANY not in parameters:
            yield f"{place}.{key}: {node['_target_']} takes no {key!r}; {nearest(key, parameters)}"


def _parameters(target: Any) -> dict[str, Any]:
    """Keyword parameters of a target with their annotations, and ANY if it takes any keyword.

    A constructor with `**keywords` passes them to its base class, so the base's parameters count
    as well.
    """
    found: dict[str, Any] = {}
    functions = [target]
    if inspect.isclass(target):
        # From the class to its bases, of which each may define a constructor or inherit it.
        functions = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        new = (p for p in parameters if p.name not in (*found, "self"))
        found |= {p.name: p.annotation for p in new}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
    return found | {ANY: None}


def _without_parts_of_the_run(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave the parameters of a LightningModule that a config may have, and not its nets."""
    from kd.distillers.base import Distiller  # loads Lightning

    passed = {*_parameters(Distiller), "teacher", "test_logits", "peers"}
    return {name: kind for name, kind in parameters.items() if name not in passed}


def _is_a(value: Any, annotation: Any) -> bool:
    """Whether a value has the annotated type; only numbers, flags and strings are checked."""
    kinds = _kinds(annotation)
    if not {*kinds} <= {int, float, bool, str, NoneType}:
        return True
    # `type`, not `isinstance`: True is an int in Python. A whole number is a float in YAML as well.
    return type(value) in kinds or (type(value) is int and float in kinds)


def _kinds(annotation: Any) -> list[Any]:
    """The types of an annotation, without Tensor: a config holds no tensors."""
    several = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if several else [annotation]
    return [kind for kind in kinds if kind is not Tensor]


def _name(annotation: Any) -> str:
    kinds = _kinds(annotation)
    return " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
