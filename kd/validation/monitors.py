"""Checks of callbacks that watch a logged figure, such as EarlyStopping."""

import re
from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from kd.build.data import data_task
from kd.build.parts import distiller_class
from kd.errors import nearest

# Figures of every run, and whether a higher one is better
_FIGURES = {"val/nll": False, "train/loss": False}
_WATCHING = ("EarlyStopping", "ModelCheckpoint")


def monitor_problems(cfg: DictConfig) -> Iterator[str]:
    """Find callbacks that watch a figure which no run logs, or in the wrong direction.

    Lightning finds the former at the end of the first epoch. The latter stops a run while its
    accuracy rises: EarlyStopping expects a figure to fall unless it is given `mode: max`.
    """
    if not OmegaConf.is_dict(cfg.callbacks):
        return
    task = data_task(cfg)
    selection = {task.monitor: True, f"hp/val_{task.selection}": True}
    figures = {**selection, **_FIGURES, **distiller_class(cfg).figures}
    for place in ("train", "train/teacher") if cfg.teacher.get("update") else ("train",):
        figures |= {f"{place}/{name}": False for name in cfg.method.objectives}
    targets = [OmegaConf.select(each, "_target_") for each in _parts(cfg)]
    known = all(str(target).startswith(("kd.", "lightning.")) for target in targets)
    for name, part in cfg.callbacks.items():
        target = str(part.get("_target_")) if OmegaConf.is_dict(part) else ""
        monitor = part.get("monitor") if target.endswith(_WATCHING) else None
        if not isinstance(monitor, str):
            continue
        place = f"callbacks.{name}"
        if monitor in figures:
            better = "max" if figures[monitor] else "min"
            if (mode := part.get("mode", "min")) != better:
                word = "rises" if figures[monitor] else "falls"
                yield f"{place}.mode={mode}: {monitor} {word} in a good run; mode must be {better}"
        elif known and not _is_of_a_mode(cfg, monitor):
            yield f"{place}.monitor={monitor}: no run logs it; {nearest(monitor, figures)}"


def _parts(cfg: DictConfig) -> Iterator[DictConfig]:
    yield from (part for part in cfg.callbacks.values() if OmegaConf.is_dict(part))


def _is_of_a_mode(cfg: DictConfig, monitor: str) -> bool:
    """Whether a figure may be one of a peer, or of an average of weights."""
    return cfg.mode.name != "offline" and re.fullmatch(r"val/\w+/(acc|nll)", monitor) is not None
