"""Checks of every `_target_`: it may be called, and takes the arguments beside it."""

import inspect
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from torch import Tensor

from kd.build.instantiate import root_cause
from kd.config.targets import resolve_target
from kd.errors import nearest

# Stands for all keywords in the parameters of a target that takes any.
ANY = "**"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def target_problems(node: Any, place: str) -> Iterator[str]:
    """Find targets that cannot be called, and arguments that they do not take.

    Args:
        node: plain content of a config, at any depth.
        place: the node's place in the config; empty for the root.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            yield from _target(node, place)
        for key, value in node.items():
            yield from target_problems(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from target_problems(value, f"{place}[{position}]")


def _target(node: dict[str, Any], place: str) -> Iterator[str]:
    name = str(node["_target_"])
    try:
        parameters = _parameters(resolve_target(name))
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
