"""Checks of a run against what its data support."""

from collections.abc import Iterator

from omegaconf import DictConfig

from kd.build.method import Method
from kd.build.parts import distiller_class
from kd.config.members import is_ensemble
from kd.data.base import DataModule
from kd.validation.optimizer import parts_optimizer
from kd.validation.problems import refuse
from kd.validation.views import data_problems


def refuse_unsupported(cfg: DictConfig, data: DataModule, method: Method) -> None:
    """Check, before a teacher is trained, that mode and method find what they read in the data.

    Args:
        cfg: the config of the run.
        data: the data, set up.
        method: the objectives of the run.

    Raises:
        UserError: names every part that reads what the data do not have, and the reason.
    """
    refuse(_problems(cfg, data, method))


def _problems(cfg: DictConfig, data: DataModule, method: Method) -> Iterator[str]:
    mode, limits = distiller_class(cfg), data.limits
    yield from data_problems(cfg, data, method.objectives)
    needs_index = {f"mode={cfg.mode.name}": mode.needs_index}
    for name, objective in method.objectives.items():
        place = f"method.objectives.{name}"
        needs_index[place] = objective.needs_index
        if objective.standardise and data.num_classes == 2:
            yield (
                f"{place} standardises logits, and those of two classes are ±0.71 then, whatever "
                "they were; choose method=kd without method.standardise"
            )
        if objective.max_batch is not None and objective.max_batch < data.batch_size:
            yield (
                f"{place} keeps {objective.max_batch} images in its memory, fewer than "
                f"data.batch_size={data.batch_size}; raise method.memory, or lower data.batch_size"
            )
    if data.mixes:
        for place in _label_readers(cfg, method):
            yield (
                f"{place} reads labels, and the targets of data {data.name!r} are probabilities; "
                "give class indices"
            )
    for place, needed in needs_index.items():
        if needed and limits.index:
            yield f"{place} keeps a memory by sample index: {limits.index}"
    if method.needs_teacher and limits.cache and cfg.teacher.cache.mode in ("on", "refresh"):
        yield f"teacher.cache={cfg.teacher.cache.mode}: {limits.cache}; choose teacher.cache=auto"
    if mode.needs_images and limits.images:
        yield f"mode={cfg.mode.name} reads training images by index: {limits.images}"


def _label_readers(cfg: DictConfig, method: Method) -> Iterator[str]:
    """Yield the places of all parts that read labels as class indices."""
    for name, objective in method.objectives.items():
        if objective.needs_labels:
            yield f"method.objectives.{name}"
    optimizer = parts_optimizer(cfg)
    if optimizer is not None and optimizer.by_class:
        yield f"optimizer={optimizer.__name__.lower()}"
    if is_ensemble(cfg) and cfg.teacher.get("weighting") == "confidence":
        yield "teacher.weighting=confidence"
