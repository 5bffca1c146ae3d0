"""Every `_target_`: whether it may be called, and takes the arguments that stand beside it.

A config is code, since it names what is called; so a stranger's may name only what is known here.
"""

import inspect
import os
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.utils import get_object

from kd.build import root_cause
from kd.errors import nearest

ANY = "**"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


# Packages of what a config may call; KD_ALLOW_TARGETS=mypackage,other adds some.
ALLOWED = ("kd", "torch", "torchvision", "timm", "torchmetrics", "lightning")
# Parts of them that load and run whatever they are pointed at
_LOADERS = (
    *("torch.load", "torch.hub", "torch.jit", "torch.package", "torch.serialization"),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo", "torch.ops", "torch.classes"),
)


def target_problems(node: Any, place: str) -> Iterator[str]:
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
    if not _is_allowed(name):  # before the import, which runs code as well
        yield f"{place}._target_={name}: {_refusal(name)}"
        return
    try:
        found = get_object(name)
        origin = f"{getattr(found, '__module__', None) or name}.{getattr(found, '__name__', '')}"
        if not _is_allowed(origin):  # os.system, found as kd.cli.os.system
            yield f"{place}._target_={name}: {_refusal(origin)}"
            return
        parameters = _parameters(found)
    except Exception as error:  # an import can fail in any way
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


def _is_allowed(name: str) -> bool:
    added = [package.strip() for package in os.environ.get("KD_ALLOW_TARGETS", "").split(",")]
    if any(f"{name}.".startswith(f"{loader}.") for loader in _LOADERS):
        return False
    return name.partition(".")[0] in {*ALLOWED, *filter(None, added)}


def _refusal(name: str) -> str:
    if name.partition(".")[0] in ALLOWED:
        return f"{name} runs what it is pointed at, so a config may not call it"
    return (
        f"a config may call {', '.join(ALLOWED)}; KD_ALLOW_TARGETS={name.partition('.')[0]} in the "
        "environment allows this package too"
    )


def _parameters(target: Any) -> dict[str, Any]:
    """The keywords a target takes and their annotations; ANY among them where it takes any.

    A class whose constructor hands `**keywords` on takes those of its base as well.
    """
    found: dict[str, Any] = {}
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        new = (p for p in parameters if p.name not in (*found, "self"))
        found |= {p.name: p.annotation for p in new}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
    return found | {ANY: None}


def _is_a(value: Any, annotation: Any) -> bool:
    """Whether a value fits; annotations beyond numbers, flags and strings are not judged."""
    several = get_origin(annotation) in (Union, UnionType)
    kinds = {*get_args(annotation)} if several else {annotation}
    if not kinds <= {int, float, bool, str, NoneType}:
        return True
    return type(value) in kinds or (type(value) is int and float in kinds)


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))
