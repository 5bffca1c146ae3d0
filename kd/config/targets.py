"""Classes and functions that a config names: their import, and the base class of each place.

Hydra calls what `_target_` names, so a config is code. Configs are of two origins:

- The user's own: the command line, `conf/`, and the folders of `--config-dir`. They may name
  anything that can be imported. Each place still needs its base class, see `SLOTS`.
- The record in a run folder, which may come from a stranger. `kd.config.verify` checks all of it
  when it is read, before Hydra composes it: classes are named in `SLOTS` only, and only those that
  the user's own YAML files name. No later code depends on where a value came from.

Nothing else that a stranger may have written is a config: weights files name constructors of
`kd.models` (`kd.deploy.rebuild`), other files are read as data.
"""

import inspect
import re
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from kd.errors import UserError

# Parts of a run's config that describe a training; the teacher's own training has them as well.
_TRAINING = {
    "method.objectives.*": "kd.objectives.base.Objective",
    "method.schedules.*": "kd.schedules.Schedule",
    "method.weights.*": "kd.schedules.Schedule",
    "method.stages.*.weights.*": "kd.schedules.Schedule",
    "method.distiller": "kd.distillers.base.Distiller",
    "mode.distiller": "kd.distillers.base.Distiller",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "kd.schedules.Schedule",
    "trainer": "lightning.Trainer",
}
# Every place of a config that is built, with the base class of what it names. * is any one key.
SLOTS = {
    "data": "lightning.LightningDataModule",
    "data.view": "kd.data.views.ViewSpace",
    "data.second": "kd.data.views.ViewSpace",
    "data.augment": "kd.data.augment.Augmentation",
    "student.net": "torch.nn.Module",
    "teacher.net": "torch.nn.Module",
    "callbacks.*": "lightning.Callback",
    "logger.*": "lightning.pytorch.loggers.Logger",
    **_TRAINING,
    **{f"teacher.training.{place}": base for place, base in _TRAINING.items()},
}
# Attributes of the class itself are read, before there is an instance.
_NO_FUNCTIONS = {
    *("data", "data.view", "data.second", "data.augment"),
    *("method.distiller", "mode.distiller"),
}
_PATTERNS = {tuple(place.split(".")): place for place in SLOTS}

_MISSING = object()
Place = tuple[str, ...]  # keys and positions from the root of a config


def slot_of(place: Place) -> str | None:
    """Return the key in `SLOTS` of a place in a config; None: nothing is built there.

    Example:
        >>> slot_of(("callbacks", "mine")), slot_of(("trainer", "profiler"))
        ('callbacks.*', None)
    """
    for pattern, slot in _PATTERNS.items():
        if len(pattern) == len(place) and all(
            p in ("*", key) for p, key in zip(pattern, place, strict=True)
        ):
            return slot
    return None


def dotted(place: Place) -> str:
    """Return a place as it is written on the command line.

    Example:
        >>> dotted(("method", "stages", "0", "weights"))
        'method.stages[0].weights'
    """
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(place))


def is_target(node: Any) -> bool:
    """Return whether a node of a config names what is built from it."""
    return isinstance(node, dict | DictConfig) and "_target_" in node


def resolve_target(name: str) -> Any:
    """Import the class or function `name`, a dotted path such as `torch.optim.SGD`.

    Raises:
        UserError: there is none; names the nearest.
        Exception: whatever the import raises.
    """
    first, *rest = name.split(".")
    found, path = _module(first), first
    for part in rest:
        inner = getattr(found, part, _MISSING)
        if inner is _MISSING and hasattr(found, "__path__"):  # a package
            inner = _submodule(f"{path}.{part}")
        if inner is _MISSING:
            raise UserError(f"{path} has no {part!r}{_hint(part, found)}")
        found, path = inner, f"{path}.{part}"
    if not callable(found) or inspect.ismodule(found):
        raise UserError(f"{name} is neither a class nor a function")
    return found


def _module(path: str) -> Any:
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # a module that this one imports
            raise
    except ValueError:  # an empty name
        pass
    raise UserError(f"there is no module {path!r} in the current folder or among those installed")


def _submodule(path: str) -> Any:
    # Not by attribute: torch.optim deletes those of its modules, such as torch.optim.sgd.
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
    return _MISSING


def _hint(name: str, found: Any) -> str:
    close = get_close_matches(name, dir(found), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_class(target: Any, slot: str) -> None:
    """Refuse a class that is not of the slot's base class; a function shows it when it is called.

    Raises:
        UserError: names the base class.
    """
    if slot in _NO_FUNCTIONS and not inspect.isclass(target):
        raise UserError(f"must be a subclass of {SLOTS[slot]}, not a function")
    if inspect.isclass(target) and not issubclass(target, resolve_target(SLOTS[slot])):
        raise UserError(_needs(slot, target))


def check_instance(built: Any, slot: str) -> None:
    """Refuse an object that is not an instance of the slot's base class.

    Raises:
        UserError: names the base class.
    """
    if not isinstance(built, resolve_target(SLOTS[slot])):
        raise UserError(_needs(slot, type(built)))


def _needs(slot: str, kind: type) -> str:
    base = SLOTS[slot]
    return (
        f"must be a {base.rpartition('.')[2]}, a subclass of {base}, "
        f"got {kind.__module__}.{kind.__qualname__}"
    )
