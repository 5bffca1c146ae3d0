"""What a config may call.

A config is code, since it names what is called; so a stranger's may name only what is known here.
"""

import inspect
import os
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object

from kd.errors import UserError

# Packages of what may be called; KD_ALLOW_TARGETS=mypackage,other adds some.
PACKAGES = ("kd", "torch", "torchvision", "timm", "torchmetrics", "lightning")
# Plain functions are called only where they make nets; torch has many that run what they are given.
_FUNCTIONS = ("kd", "torchvision.models", "timm")
# Classes that do
_LOADERS = ("torch.hub", "torch.jit", "torch.package", "torch.utils.cpp_extension", "torch.classes")


def resolve_target(name: str) -> Any:
    """Import what `name` names, if it may be called.

    Raises:
        UserError: it may not; or anything that its import raises.
    """
    _check_name(name)  # before the import, which runs code as well
    found = get_object(name)
    module = getattr(found, "__module__", None)
    if not isinstance(module, str):  # such as the method of a built-in
        raise UserError(f"{name} is neither a class nor a function, so a config may not call it")
    origin = f"{module}.{getattr(found, '__qualname__', '')}"  # posix.system of os.system
    _check_name(origin)
    if not inspect.isclass(found) and not _is_in(origin, (*_FUNCTIONS, *_added())):
        raise UserError(
            f"{origin} is a plain function, of which a config may call those of "
            f"{', '.join(_FUNCTIONS)}"
        )
    return found


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in plain content, however deep."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def _check_name(name: str) -> None:
    if _is_in(name, _LOADERS):
        raise UserError(f"{name} runs what it is pointed at, so a config may not call it")
    if not _is_in(name, (*PACKAGES, *_added())):
        raise UserError(
            f"a config may call {', '.join(PACKAGES)}; KD_ALLOW_TARGETS={name.partition('.')[0]} "
            "in the environment allows this package too"
        )


def _added() -> list[str]:
    names = (package.strip() for package in os.environ.get("KD_ALLOW_TARGETS", "").split(","))
    return [name for name in names if name]


def _is_in(name: str, places: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places)
