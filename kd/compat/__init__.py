"""Undocumented interfaces of dependencies, each with the reason why no public one will do.

Nothing else in `kd` reads a private attribute of Hydra, OmegaConf, Lightning or torch.
`tests/compat/test_compat.py` has a test for each function here that names it when a new version of
the dependency breaks it. Imports are inside the functions: commands load this module at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def share_config_store() -> None:
    """Let all of Hydra's config repositories share one ConfigStore.

    Hydra copies the repository, and with it the whole store, for every group that it lists: about
    150 copies for `--help`, 2.4 s of CPU time instead of 0.5 s. The copies protect nothing, since
    what is loaded from the store is copied once more. No option of Hydra's turns them off.
    """
    from hydra.core.config_store import ConfigStore

    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def whole_config(error: Any) -> Any:
    """Return the root of the config in which OmegaConf did not find a key; None if unknown.

    Hydra hands on OmegaConf's error without the config that it was composing. The error refers to
    the node that lacks the key, and no public function leads from a node to its root.

    Args:
        error: a `ConfigAttributeError` or `ConfigKeyError`.
    """
    node = error.parent_node
    return None if node is None else node._get_root()


def copy_without_hooks(module: Any) -> Any:
    """Return a deep copy of an `nn.Module` that has no forward hooks.

    A hook is copied with all that it refers to; those of `kd.taps` refer to the whole net. torch
    removes a hook only through the handle that registering it returned.

    Args:
        module: a module, which keeps its hooks.
    """
    from collections import OrderedDict
    from copy import deepcopy

    hooks = [h for m in module.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
    return deepcopy(module, {id(each): OrderedDict() for each in hooks})


def tensor_version(tensor: Any) -> int:
    """Return the number of in-place operations that a tensor has undergone.

    Autograd counts them; no public attribute shows the count. Comparing values instead would miss a
    ReLU in place on a batch whose values are all positive.

    Args:
        tensor: any tensor outside `torch.inference_mode`.
    """
    return int(tensor._version)


def finished_batches(trainer: Any) -> int:
    """Return the number of batches of the current epoch whose training step is done.

    A loader cannot count them: Lightning fetches one batch ahead of the step. Callbacks know the
    number, but the loader's state is collected between their calls.

    Args:
        trainer: the `Trainer` that fits.
    """
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)


def cpu_number_formats() -> frozenset[str]:
    """Return which of `bfloat16` and `float16` the processor multiplies natively.

    torch computes with the others as well, in software. `torch.cpu.get_capabilities` is public, and
    newer than the oldest torch that is supported.
    """
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return frozenset({"bfloat16"} if found else ())
    features = [name for name, present in torch.cpu.get_capabilities().items() if present is True]
    marks = {"bfloat16": "bf16", "float16": "fp16"}  # as in avx512_bf16, amx_bf16, amx_fp16
    return frozenset(
        each for each, mark in marks.items() if any(mark in feature for feature in features)
    )


def count_epochs_from_one(trainer: Any) -> None:
    """Let the trainer's loggers count epochs from 1, as result.json does and users do.

    Lightning adds `epoch`, counted from 0, to everything that is logged, and offers no setting.
    After training the number is that of the epochs that are done, which stays.

    Args:
        trainer: the `Trainer`, before it fits.
    """
    from functools import partial

    trainer._logger_connector.log_metrics = partial(_log_metrics, trainer)


def _log_metrics(trainer: Any, metrics: Any, step: int | None = None) -> None:
    connector = trainer._logger_connector
    if metrics and step is None and "step" not in metrics:
        fitting = trainer.state.fn is not None and trainer.state.fn.value == "fit"
        metrics = {"epoch": trainer.current_epoch + fitting, **metrics}
    type(connector).log_metrics(connector, metrics, step)


def training_figures(trainer: Any) -> tuple[dict[str, float], int]:
    """Return what Lightning is about to log of the training epoch, and the step of that row.

    It logs after the callbacks have saved the epoch's checkpoint.

    Args:
        trainer: the `Trainer`, in `on_train_epoch_end` of a checkpoint callback.
    """
    figures = trainer._logger_connector.metrics["log"]
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
    return {name: value.item() for name, value in figures.items()}, step


def process_rank() -> int:
    """Return this process's rank among those of a run on several devices; 0 for a single process.

    `Trainer.global_rank` is the same number, but the folder is locked before there is a Trainer.
    """
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", None) or 0)


@contextmanager
def hydra_session(config_path: str, config_dir: Any = None) -> Iterator[Any]:
    """Compose within this block as `hydra.main` will with the same folders.

    `hydra.initialize_config_dir` knows no folder of `--config-dir`, and an override of
    `hydra.searchpath` in its place would replace one that the user gives.

    Args:
        config_path: the folder of the primary config.
        config_dir: the folder given with `--config-dir`, or None.

    Yields:
        Hydra's config loader.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    search_path = create_config_search_path(config_path)
    if config_dir is not None:
        anchor = SearchPathQuery(provider="schema")
        search_path.prepend("command-line", f"file://{config_dir}", anchor)
    Hydra.create_main_hydra2(task_name="kd", config_search_path=search_path)
    try:
        yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().clear()
