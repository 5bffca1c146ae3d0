"""What a chain is made of: its stages' configs, checked before the first of them runs.

Nets that teach one another: teacher assistants, Mirzadeh et al. 2020, and Born-Again generations,
Furlanello et al. 2018. The teacher's own past as a route: RCO, Jin et al. 2019.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from omegaconf import DictConfig, ListConfig, open_dict

from kd.build.method import Method
from kd.build.parts import distiller_class
from kd.config.compose import model_config, plain
from kd.errors import UserError
from kd.validation.check import check_config

log = logging.getLogger(__name__)


class ChainStage(NamedTuple):
    """One run of a chain: its number from 1, its config and its folder."""

    number: int
    cfg: DictConfig
    folder: Path

    def __str__(self) -> str:
        return f"stage {self.folder.name}"


def plan(overrides: Sequence[str], folder: Path) -> list[ChainStage]:
    """The stages of a chain in their order; each is the run that kd.train would make of its config.

    Args:
        overrides: the command line; holds for every stage.
        folder: the chain's folder, in which every stage has one of its own.

    Raises:
        UserError: the chain cannot be run; names the stage where that is one stage's fault.
    """
    cfg = compose("chain", overrides=list(overrides))
    _check_chain(cfg)
    made = _of_nets if cfg.stages is not None else _of_epochs
    stages = list(made(cfg, overrides, folder))
    methods = []
    for stage in stages:
        try:
            methods.append(check_config(stage.cfg).method)
        except UserError as error:
            raise UserError(f"{stage}: {error}") from error
    _check_method(stages[0].cfg.method.name, methods[0])
    _tell_apart(stages)
    return stages


def _check_chain(cfg: DictConfig) -> None:
    if (cfg.stages is None) == (cfg.route is None):
        raise UserError(
            "a chain is either stages=[resnet56,resnet32,resnet8], nets of which each teaches the "
            "next, or route=[5,10,20], epochs of the teacher's own training"
        )
    if distiller_class(cfg).teacher_kind != "pretrained":
        raise UserError(f"mode={cfg.mode.name}: a chain hands on teachers; use mode=offline")
    if cfg.resume is not None:
        raise UserError(
            f"resume={cfg.resume}: a chain goes on by itself; give its folder as hydra.run.dir=…"
        )
    if not isinstance(cfg.seed, int):
        raise UserError(f"seed={cfg.seed}: must be a whole number ≥ 0")


def _of_nets(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> Iterator[ChainStage]:
    """A stage for every net but the first, taught by the one before it."""
    first, *students = _names(cfg, overrides)
    before: ChainStage | None = None
    for number, name in enumerate(students, start=1):
        chosen = (f"teacher={first}", f"student={name}")
        stage = _stage([*overrides, *chosen], number, folder / f"{number}_{name}")
        with open_dict(stage.cfg):
            # The last student starts, and sees the images, as in a run of its own with this seed.
            stage.cfg.seed = cfg.seed + len(students) - number
            if before is not None:
                taught_by = {k: plain(before.cfg.student[k]) for k in ("name", "net", "taps")}
                stage.cfg.teacher.update(taught_by, checkpoint=str(before.folder), epoch=None)
        before = stage
        yield stage


def _names(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """The names of `stages`, each of a model."""
    names = _several(cfg, "stages", "names of models", "[resnet56,resnet32,resnet8]")
    given = {override.lstrip("+").split("=")[0] for override in overrides}
    for key in sorted(given & {"teacher", "student", "student.checkpoint"}):
        raise UserError(f"{key}=…: stages=[…] says which net teaches which; leave {key} out")
    try:
        for name in names:
            model_config(str(name))
    except UserError as error:
        raise UserError(f"stages=[{','.join(map(str, names))}]: {error}") from error
    return names


def _of_epochs(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> Iterator[ChainStage]:
    """A stage for every epoch of the teacher, in which the same student goes on."""
    before: ChainStage | None = None
    for number, epoch in enumerate(_epochs(cfg), start=1):
        stage = _stage(overrides, number, folder / f"{number}_epoch{epoch}")
        # Another order of the images; the first stage starts as a run of its own would.
        stage.cfg.seed = cfg.seed + number - 1
        stage.cfg.teacher.epoch = epoch
        if before is not None:
            stage.cfg.student.checkpoint = str(before.folder)
        before = stage
        yield stage


def _epochs(cfg: DictConfig) -> list[int]:
    """The epochs of `route`, in order and among those of the teacher's training."""
    epochs = _several(cfg, "route", "epochs of the teacher's training", "[5,10,20]")
    place = f"route=[{','.join(map(str, epochs))}]"
    if cfg.teacher.epoch is not None:
        raise UserError(f"teacher.epoch={cfg.teacher.epoch}: {place} says which; leave it out")
    if not all(type(epoch) is int and epoch >= 1 for epoch in epochs):
        raise UserError(f"{place}: epochs are whole numbers ≥ 1")
    if epochs != sorted(set(epochs)):
        raise UserError(f"{place}: the epochs must grow")
    trained = cfg.teacher.training.trainer.max_epochs
    if cfg.teacher.checkpoint is None and epochs[-1] > trained:
        where = f"teacher.training.trainer.max_epochs={trained}"
        raise UserError(f"{place}: the teacher trains for {where}")
    return epochs


def _several(cfg: DictConfig, key: str, what: str, example: str) -> list[Any]:
    if not isinstance(cfg[key], ListConfig) or len(cfg[key]) < 2:
        raise UserError(f"{key}={cfg[key]}: must be at least two {what}, such as {key}={example}")
    return list(cfg[key])


def _stage(overrides: Sequence[str], number: int, folder: Path) -> ChainStage:
    """A run of kd.train with these overrides."""
    cfg = compose("chain", overrides=list(overrides))
    with open_dict(cfg):
        del cfg["stages"], cfg["route"]
        cfg.paths.run = str(folder)
    return ChainStage(number, cfg, folder)


def _check_method(name: str, method: Method) -> None:
    if not method.needs_teacher:
        raise UserError(f"method={name} asks no teacher: there is nothing to hand on")
    if any(objective.changes_student for objective in method.objectives.values()):
        raise UserError(
            f"method={name} leaves another net than the student, which cannot go on as "
            "the next stage's"
        )


def _tell_apart(stages: Sequence[ChainStage]) -> None:
    """See that the first teacher does not start from the weights that a stage starts from.

    Generations that start alike would be one net trained twice (Furlanello et al. 2018 draw anew).
    """
    teacher = stages[0].cfg.teacher
    alike = [stage for stage in stages if _starts_like(stage, teacher)]
    if alike and teacher.checkpoint is None:
        old, new = teacher.training.seed, max(stage.cfg.seed for stage in stages) + 1
        log.info("teacher.training.seed=%d, since with %d it starts like %s", new, old, alike[0])
        for stage in stages:
            stage.cfg.teacher.training.seed = new


def _starts_like(stage: ChainStage, teacher: DictConfig) -> bool:
    """Whether a stage's student and the teacher are the same net at random with the same seed."""
    student = stage.cfg.student
    same_seed = student.checkpoint is None and stage.cfg.seed == teacher.training.seed
    return same_seed and plain(student.net) == plain(teacher.net)
