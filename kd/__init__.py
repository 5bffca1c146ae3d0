"""Knowledge distillation of classifiers and detectors, as commands and as a library.

    >>> import torch
    >>> import kd
    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> kd.losses.kd(student, teacher, temperature=4.0)
    tensor(1.7751)

`import kd` imports nothing else, so that the commands print `--help` before torch is loaded: each
public name is imported when it is first read (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd import losses as losses
    from kd.api.distil import distil as distil
    from kd.deploy.load import load as load
    from kd.errors import UserError as UserError
    from kd.objectives.base import Objective as Objective
    from kd.taps import Taps as Taps
    from kd.types import Batch as Batch
    from kd.types import Outputs as Outputs

    __version__: str

# Public name -> module that defines it; a name of its own module is the module itself.
_EXPORTS = {
    "Batch": "kd.types",
    "Objective": "kd.objectives.base",
    "Outputs": "kd.types",
    "Taps": "kd.taps",
    "UserError": "kd.errors",
    "distil": "kd.api.distil",
    "load": "kd.deploy.load",
    "losses": "kd.losses",
}

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _EXPORTS:
        module = import_module(_EXPORTS[name])
        value = module if module.__name__ == f"kd.{name}" else getattr(module, name)
    else:
        raise AttributeError(f"module 'kd' has no attribute {name!r}")
    globals()[name] = value  # found without __getattr__ from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kd")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"
