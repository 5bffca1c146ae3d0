"""Checks of a teacher's own normalisation, and of what else belongs to its checkpoint."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from kd.config.compose import plain
from kd.config.members import BY_MEMBER, is_ensemble
from kd.validation.numbers import is_number

_WITH_CHECKPOINT = ("checkpoint_key", "mean", "std")


def normalisation_problems(cfg: DictConfig) -> Iterator[str]:
    """Find a wrong `teacher.mean` or `.std`, one without a checkpoint, and lists of members."""
    teacher: dict[str, Any] = {key: plain(cfg.teacher.get(key)) for key in _ALL}
    if is_ensemble(cfg):
        yield from _of_ensemble(teacher, len(cfg.teacher.members or ()))
        return
    own = {f"teacher.{key}": teacher[key] for key in ("mean", "std") if teacher[key] is not None}
    given = "given" in (plain(cfg.teacher.net) or {})
    if own and teacher["checkpoint"] is None and not given:
        yield (
            f"{', '.join(f'{key}={value}' for key, value in own.items())}: belongs to "
            "teacher.checkpoint=…; a teacher that is trained here has the normalisation of the data"
        )
    else:
        yield from _pair(teacher["mean"], teacher["std"], "teacher.mean", "teacher.std")


_ALL = (*BY_MEMBER, *BY_MEMBER.values())


def _of_ensemble(teacher: dict[str, Any], count: int) -> Iterator[str]:
    for single in _WITH_CHECKPOINT:
        several = BY_MEMBER[single]
        if teacher[single] is not None:
            yield f"teacher.{single}: an ensemble takes teacher.{several}, a list of {count}"
        values = teacher[several]
        if values is not None and not (isinstance(values, list) and len(values) == count):
            yield f"teacher.{several}={values}: must be a list of {count}, one for each member"
            return
    yield from _without_checkpoint(teacher, count)
    means, stds = (teacher[name] or [None] * count for name in ("means", "stds"))
    for number, (mean, std) in enumerate(zip(means, stds, strict=True)):
        yield from _pair(mean, std, f"teacher.means[{number}]", f"teacher.stds[{number}]")


def _without_checkpoint(teacher: dict[str, Any], count: int) -> Iterator[str]:
    """Find what belongs to a checkpoint at members that have none."""
    paths = teacher["checkpoints"] or [None] * count
    if not isinstance(paths, list) or len(paths) != count:  # a mistake of its own
        return
    for number, path in enumerate(paths):
        own = {BY_MEMBER[key]: (teacher[BY_MEMBER[key]] or {}) for key in _WITH_CHECKPOINT}
        given = {key: values[number] for key, values in own.items() if values}
        wrong = [f"{key}[{number}]={value}" for key, value in given.items() if value is not None]
        if path is None and wrong:
            yield (
                f"teacher.{', teacher.'.join(wrong)}: belongs to teacher.checkpoints[{number}], "
                "which is null: that member is not read from a file"
            )


def _pair(mean: Any, std: Any, mean_key: str, std_key: str) -> Iterator[str]:
    if mean is None and std is None:
        return
    if not (_are_numbers(mean) and _are_numbers(std) and len(mean) == len(std)):
        yield f"{mean_key}={mean}, {std_key}={std}: must be lists of numbers, one for each channel"
    elif min(std) <= 0:
        yield f"{std_key}={std}: must be > 0"
    elif max(map(abs, mean)) > 1 or max(std) > 1:
        yield (
            f"{mean_key}={mean}, {std_key}={std}: are on the 0..1 scale; divide those of the scale "
            "0..255 by 255"
        )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(map(is_number, values))
