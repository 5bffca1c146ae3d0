"""Import of the classes and functions that a config names, limited to known packages.

A config is code, since Hydra calls what its `_target_` keys name. A config from a stranger, such as
the one recorded in a run's folder, may therefore name only what is allowed here.
"""

import inspect
import os
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object

from kd.errors import UserError

# Packages whose classes may be called; KD_ALLOW_TARGETS=mypackage,other allows more.
PACKAGES = ("kd", "torch", "torchvision", "timm", "torchmetrics", "lightning")
# Packages whose plain functions may be called too, since they build nets. Many functions of torch
# execute what they are given, such as torch.load and torch.utils.collect_env.run.
_FUNCTIONS = ("kd", "torchvision.models", "timm")
# Modules whose classes load and execute code
_LOADERS = ("torch.hub", "torch.jit", "torch.package", "torch.utils.cpp_extension", "torch.classes")


def resolve_target(name: str) -> Any:
    """Import the class or function `name`, if a config may call it.

    Args:
        name: a dotted path, such as `torch.optim.SGD`.

    Raises:
        UserError: a config may not call it.
        Exception: whatever the import raises.
    """
    _check_name(name)  # before the import, which executes code as well
    found = get_object(name)
    module = getattr(found, "__module__", None)
    if not isinstance(module, str):  # such as a method of a built-in type
        raise UserError(f"{name} is neither a class nor a function, so a config may not call it")
    # Where it is defined: torch.os.system is posix.system.
    origin = f"{module}.{getattr(found, '__qualname__', '')}"
    _check_name(origin)
    if not inspect.isclass(found) and not _is_in(origin, (*_FUNCTIONS, *_added())):
        raise UserError(
            f"{origin} is a plain function; a config may call functions of "
            f"{', '.join(_FUNCTIONS)} only"
        )
    return found


def targets(node: Any) -> Iterator[str]:
    """Yield every `_target_` in plain content, at any depth.

    Example:
        >>> list(targets({"a": [{"_target_": "torch.nn.ReLU"}], "b": 1}))
        ['torch.nn.ReLU']
    """
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
        raise UserError(f"{name} executes code that it loads, so a config may not call it")
    if not _is_in(name, (*PACKAGES, *_added())):
        raise UserError(
            f"a config may call {', '.join(PACKAGES)}; KD_ALLOW_TARGETS={name.partition('.')[0]} "
            "in the environment allows this package too"
        )


def _added() -> list[str]:
    names = (package.strip() for package in os.environ.get("KD_ALLOW_TARGETS", "").split(","))
    return [name for name in names if name]


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)
