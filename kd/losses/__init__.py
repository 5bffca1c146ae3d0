"""Distillation losses as pure functions of tensors, named as the methods on the command line.

Each function is defined in `kd/objectives/<name>.py`, beside the loss term that `kd.train` uses,
and is imported when it is first read:

    >>> import torch
    >>> from kd import losses
    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> losses.kd(student, teacher, temperature=4.0)
    tensor(1.7751)
"""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kd import objectives

if TYPE_CHECKING:
    from torch import Tensor

    # For type checkers and editors; at run time every file of kd/objectives that defines a function
    # of its own name is found without this list.
    from kd.objectives.kd import kd as kd
    from kd.objectives.soft_ce import soft_ce as soft_ce


def _find() -> dict[str, str]:
    """Names of the functions and of the modules that define them, from the files' text."""
    files = {path.stem: path for path in Path(objectives.__path__[0]).glob("*.py")}
    names = {name: name for name in files} | objectives.VARIANTS
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    return {
        name: module
        for name, module in names.items()
        if re.search(rf"^(def {name}\(|{name} = )", texts[module], re.MULTILINE)
    }


_MODULES = _find()

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> "Callable[..., Tensor]":
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = getattr(import_module(f"kd.objectives.{_MODULES[name]}"), name)
    globals()[name] = function  # found without __getattr__ from now on
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
