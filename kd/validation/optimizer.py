"""Checks of an optimizer that gets a gradient of each part of the loss."""

from collections.abc import Iterator, Mapping

from omegaconf import DictConfig, OmegaConf

from kd.config.controls import LABELS_ONLY
from kd.config.targets import resolve_target
from kd.objectives.base import Objective
from kd.objectives.kd import SoftTargets
from kd.optimizers.base import PartsOptimizer
from kd.validation.augment import mixing_problems

# Precisions with a scaler, which multiplies the loss and divides `.grad` again
_SCALED = ("16-mixed", "16")


def optimizer_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find methods without the parts that the optimizer keeps apart, and settings that mix them.

    Args:
        cfg: the run's config.
        objectives: those of a weight other than 0.
    """
    if parts_optimizer(cfg.teacher.training) is not None:
        yield (
            f"teacher.training.{_place(cfg.teacher.training)}: a teacher is trained on labels "
            "alone; leave it as optimizer@teacher.training.optimizer=sgd"
        )
    kind = parts_optimizer(cfg)
    if kind is not None and objectives:
        yield from _method_problems(cfg, kind, objectives)
        yield from _setting_problems(cfg)


def parts_optimizer(cfg: DictConfig) -> type[PartsOptimizer] | None:
    """Return the class of a config's optimizer; None if it gets one gradient as all others do."""
    try:
        kind = resolve_target(str(OmegaConf.select(cfg, "optimizer._target_")))
    except Exception:  # an import can fail in any way; building the optimizer reports it
        return None
    return kind if isinstance(kind, type) and issubclass(kind, PartsOptimizer) else None


def _place(cfg: DictConfig) -> str:
    return f"optimizer={str(cfg.optimizer._target_).rpartition('.')[2].lower()}"


def _method_problems(
    cfg: DictConfig, kind: type[PartsOptimizer], objectives: Mapping[str, Objective]
) -> Iterator[str]:
    of_task = {name for name, term in objectives.items() if term.learns_labels}
    if not of_task or of_task == {*objectives}:
        lacking = "of the labels alone" if not of_task else "besides that of the labels"
        yield (
            f"{_place(cfg)} keeps the gradients of the labels and of the teacher apart, and "
            f"{_owner(cfg)} has no term {lacking}; use optimizer=sgd"
            + (", or a method.alpha below 1" if not of_task and _shares(cfg) else "")
        )
    elif kind.by_class and not any(
        term.by_class and not term.learns_labels for term in objectives.values()
    ):
        remedy = "method.variant=forward" if _other_divergence(objectives) else "method=kd or dkd"
        remedy = "a method.alpha above 0" if cfg.method.get("alpha") == 0 else remedy
        yield (
            f"{_place(cfg)} splits the soft term into label and other classes, and no term of "
            f"method={cfg.method.name} has these parts; use optimizer=dot, or {remedy}"
        )
    if kind.by_class:
        yield from mixing_problems(cfg, _place(cfg))


def _owner(cfg: DictConfig) -> str:
    """The method, or the control that takes its place, as on the command line."""
    control = cfg.get("control")
    return f"control={control}" if control in LABELS_ONLY else f"method={cfg.method.name}"


def _shares(cfg: DictConfig) -> bool:
    """Whether `method.alpha` may give a part of the loss to labels, which the data have."""
    given = not cfg.method.objectives  # a method without a config
    return "alpha" in cfg.method and not given and cfg.data.get("labels") is not False


def _other_divergence(objectives: Mapping[str, Objective]) -> bool:
    """Whether the soft targets have a divergence without the parts by class."""
    return any(isinstance(o, SoftTargets) and o.variant != "forward" for o in objectives.values())


def _setting_problems(cfg: DictConfig) -> Iterator[str]:
    place, trainer = _place(cfg), cfg.trainer
    if str(trainer.get("precision")) in _SCALED:
        yield (
            f"trainer.precision={trainer.precision}: {place} takes gradients that are not scaled; "
            "use trainer.precision=bf16-mixed or 32-true"
        )
    if trainer.get("gradient_clip_val"):
        yield (
            f"trainer.gradient_clip_val={trainer.gradient_clip_val}: {place} has several gradients "
            "and no single norm; leave it out, or use optimizer=sgd"
        )
    if cfg.get("compile") is not None:
        yield (
            f"compile={cfg.compile}: {place} goes backward through a graph several times, which a "
            "compiled net does not allow; leave it out, or use optimizer=sgd"
        )
