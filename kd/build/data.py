"""The data module of a run, from its config."""

import inspect
from typing import Any

from lightning import LightningDataModule
from omegaconf import DictConfig

from kd.build.instantiate import make
from kd.config.compose import plain
from kd.config.targets import resolve_target
from kd.data.adapt import adapt
from kd.data.base import DataModule
from kd.data.external import ExternalData
from kd.tasks import task_named
from kd.tasks.base import Task

_ADAPTER = f"{ExternalData.__module__}.{ExternalData.__qualname__}"
# What stands beside the arguments of a foreign data module in `conf/data/external.yaml`
_SETTINGS = {*inspect.signature(ExternalData).parameters} - {"train", "val", "test", "module"}


def build_data(cfg: DictConfig) -> DataModule:
    """Make the data module and set it up.

    Raises:
        UserError: the data are missing, damaged or of another kind than a run takes.
    """
    data = adapt(make(adapted(plain(cfg.data)), "data"))
    data.prepare_data()
    data.setup()
    return data


def data_task(cfg: DictConfig) -> Task:
    """Return the task of the data that a config names; image classification if they say none."""
    target = adapted(plain(cfg.data)).get("_target_")  # given data have none
    found = None if target is None else resolve_target(str(target))
    return task_named(getattr(found, "task", "image_classification"))


def adapted(node: dict[str, Any]) -> dict[str, Any]:
    """Wrap the config of a foreign `LightningDataModule` in that of `ExternalData`.

    Settings of `ExternalData` (such as `name`, `mean` or `num_classes`) go to it, and to the module
    as well if its constructor names them; all other keys go to the module.

    Args:
        node: the plain `data` node of a config; returned as it is if it needs no adapter.

    Example:
        >>> node = {"_target_": "lightning.LightningDataModule", "name": "mine", "root": "images"}
        >>> adapted(node)["module"]
        {'_target_': 'lightning.LightningDataModule', 'root': 'images'}
    """
    try:
        target = resolve_target(str(node["_target_"]))
    except Exception:  # an import can fail in any way; the check of the config reports it
        return node
    if not inspect.isclass(target) or not issubclass(target, LightningDataModule):
        return node
    if issubclass(target, DataModule):
        return node
    named = inspect.signature(target).parameters
    settings = {key: node[key] for key in node if key in _SETTINGS}
    module = {key: node[key] for key in node if key not in _SETTINGS or key in named}
    return {"_target_": _ADAPTER, **settings, "module": module}
