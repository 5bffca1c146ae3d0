"""Checks of single values: seeds, epochs, paths, the teacher's cache, and settings of methods."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.config.compose import plain
from kd.config.members import is_ensemble
from kd.errors import nearest
from kd.models.memory_format import MEMORY_FORMATS
from kd.objectives.checks import MAX_TEMPERATURE
from kd.teachers.cached import DTYPES
from kd.validation.ensemble import settings_problems
from kd.validation.normalisation import normalisation_problems
from kd.validation.numbers import is_integer, is_number
from kd.validation.teacher_options import teacher_option_problems

# `auto` caches if there is room, `on` insists, `refresh` computes the outputs again.
MODES = ("auto", "on", "off", "refresh")
# Modes of https://docs.pytorch.org/docs/stable/generated/torch.compile.html
COMPILE = ("default", "reduce-overhead", "max-autotune")


def value_problems(cfg: DictConfig) -> Iterator[str]:
    """Find values of a wrong type or out of range, in settings that all runs share."""
    yield from _names(cfg)
    yield from _trainings(cfg)
    yield from _cache(cfg)
    yield from normalisation_problems(cfg)
    yield from teacher_option_problems(cfg)
    yield from _epoch(cfg)
    if is_ensemble(cfg):
        yield from settings_problems(cfg)
    yield from _options(cfg)
    yield from _knobs(cfg)


def _names(cfg: DictConfig) -> Iterator[str]:
    # Names become parts of folder names, of a table's rows and of overrides, where = and , have a
    # meaning of their own.
    for role in ("method", "teacher", "student", "data", "mode"):
        name = OmegaConf.select(cfg, f"{role}.name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
            yield f"{role}.name={name}: must be a name of letters, digits and . + - _, as in files"
    for role in ("teacher", "student"):
        taps = plain(OmegaConf.select(cfg, f"{role}.taps"))
        if not isinstance(taps, dict) or not all(isinstance(v, str) for v in taps.values()):
            yield f"{role}.taps={taps}: must map names of taps to module paths, as {{stem: conv1}}"


def _trainings(cfg: DictConfig) -> Iterator[str]:
    for place, part in {"": cfg, "teacher.training.": cfg.teacher.training}.items():
        # NumPy's generator, which Lightning seeds as well, takes 32 bits.
        if not is_integer(part.seed) or not 0 <= part.seed < 2**32:
            yield f"{place}seed={part.seed}: must be a whole number ≥ 0 and below 2**32"
        epochs = part.trainer.get("max_epochs")
        if not is_integer(epochs) or epochs < 1:
            yield f"{place}trainer.max_epochs={epochs}: must be a whole number ≥ 1"
        for split in ("train", "val", "test"):
            # Lightning skips the split then, and the run would end without a figure.
            if part.trainer.get(f"limit_{split}_batches") == 0:
                yield f"{place}trainer.limit_{split}_batches=0: a run uses all three splits"
    yield from _devices(cfg)
    size = cfg.teacher.training.batch_size
    if not is_integer(size) or size < 1:
        yield f"teacher.training.batch_size={size}: must be a whole number ≥ 1"


def _devices(cfg: DictConfig) -> Iterator[str]:
    """Find devices that are none: Lightning's message names neither the setting nor its value."""
    parts = {"teacher.training.": cfg.teacher.training, "": cfg}
    # By value: the teacher's are the student's unless they are set.
    given = {str(plain(part.trainer.get("devices", 1))): place for place, part in parts.items()}
    for devices, place in given.items():
        if not re.fullmatch(r"auto|-1|[1-9]\d*|(\d+,)+\d*|\[\d+(, \d+)*\]", devices):
            yield (
                f"{place}trainer.devices={devices}: must be a number ≥ 1, auto, or indices of "
                "devices, as [0,1]"
            )


def _options(cfg: DictConfig) -> Iterator[str]:
    if cfg.compile not in (None, *COMPILE):
        yield f"compile={cfg.compile}: there is no such mode; {nearest(cfg.compile, COMPILE)}"
    # The best epoch is selected, so that validation belongs to the end of an epoch.
    if cfg.trainer.get("val_check_interval", 1.0) not in (None, 1.0):
        yield (
            f"trainer.val_check_interval={cfg.trainer.val_check_interval}: validation runs after "
            "whole epochs; for fewer of them use trainer.check_val_every_n_epoch=2"
        )
    if cfg.deterministic not in (False, "strict"):
        yield f"deterministic={cfg.deterministic}: must be false or strict"
    every: Any = cfg.checkpoint.get("every_minutes") if OmegaConf.is_dict(cfg.checkpoint) else None
    if not is_number(every) or every <= 0:
        yield f"checkpoint.every_minutes={every}: must be a number > 0"
    if cfg.channels_last not in MEMORY_FORMATS:
        yield f"channels_last={cfg.channels_last}: must be auto, true or false"
    if not isinstance(cfg.keep_epochs, bool):
        yield f"keep_epochs={cfg.keep_epochs}: must be true or false"
    if not (isinstance(cfg.figures, bool) or _are_numbers(cfg.figures)):
        yield f"figures={cfg.figures}: must be true, false, or indices of test images, as [3,17]"
    for key in ("resume", "teacher.checkpoint", "student.checkpoint"):
        path = OmegaConf.select(cfg, key)
        if not isinstance(path, str | None):
            yield f"{key}={path}: must be a path"
    for role in ("teacher", "student"):
        yield from _checkpoint_key(cfg, role)


def _checkpoint_key(cfg: DictConfig, role: str) -> Iterator[str]:
    """Find a key that is no name, or one without the checkpoint in which it would name weights."""
    place = f"{role}.checkpoint"
    key, of_members = OmegaConf.select(cfg, f"{place}_key"), role == "teacher" and is_ensemble(cfg)
    if not isinstance(key, str | None) or key == "":
        yield f"{place}_key={key}: must be a name within the checkpoint, as model_ema"
    elif key is not None and OmegaConf.select(cfg, place) is None and not of_members:
        yield (
            f"{place}_key={key}: belongs to {place}=…, which is not set; it names the weights to "
            "take from that file"
        )


def _knobs(cfg: DictConfig) -> Iterator[str]:
    method = cfg.method
    places = {"method": method, **({"teacher": cfg.teacher} if is_ensemble(cfg) else {})}
    for place, part in places.items():
        if "temperature" in part and not _is_temperature(part.temperature):
            yield (
                f"{place}.temperature={part.temperature}: must be a number > 0 and "
                f"≤ {MAX_TEMPERATURE:g}, such as 4"
            )
    if "alpha" in method and not (is_number(method.alpha) and 0 <= method.alpha <= 1):
        yield (
            f"method.alpha={method.alpha}: must be in [0, 1]; it is the weight of the soft "
            "term, and the hard labels get 1 - alpha"
        )
    if "beta" in method and not (is_number(method.beta) and method.beta >= 0):
        yield f"method.beta={method.beta}: must be a number ≥ 0"


def _is_temperature(value: Any) -> bool:
    return is_number(value) and 0 < value <= MAX_TEMPERATURE


def _are_numbers(value: Any) -> bool:
    return OmegaConf.is_list(value) and len(value) > 0 and all(map(is_integer, value))


def _epoch(cfg: DictConfig) -> Iterator[str]:
    epoch, last = cfg.teacher.epoch, cfg.teacher.training.trainer.max_epochs
    if epoch is None:
        return
    if not is_integer(epoch) or epoch < 1:
        yield f"teacher.epoch={epoch}: must be a whole number ≥ 1, or null for the best epoch"
    elif cfg.teacher.checkpoint is None and is_integer(last) and epoch > last:
        yield (
            f"teacher.epoch={epoch}: the teacher is trained for {last} epochs; raise "
            "teacher.training.trainer.max_epochs, or choose an earlier epoch"
        )


def _cache(cfg: DictConfig) -> Iterator[str]:
    cache, valid = cfg.teacher.cache, {"mode": MODES, "dtype": DTYPES}
    if not OmegaConf.is_config(cache):
        yield f"teacher.cache={cache}: in a YAML file set teacher.cache.mode, as 'on' or 'off'"
        return
    for key, choices in valid.items():
        if cache[key] not in choices:
            hint = nearest(cache[key], choices)
            yield f"teacher.cache.{key}={cache[key]}: there is no such {key}; {hint}"
    if not is_number(cache.max_gb) or cache.max_gb <= 0:
        yield f"teacher.cache.max_gb={cache.max_gb}: must be a number > 0"
