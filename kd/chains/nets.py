"""Chains of nets, in which each net teaches the next.

Teacher assistants: Mirzadeh et al. 2020, https://arxiv.org/abs/1902.03393. Born-Again generations,
with equal nets: Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, open_dict

from kd.chains.stage import ChainStage, compose_stage, list_setting
from kd.config.compose import model_config, plain
from kd.errors import UserError

log = logging.getLogger(__name__)


def net_stages(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> Iterator[ChainStage]:
    """Yield a stage for every net but the first, with the net before it as teacher."""
    first, *students = _names(cfg, overrides)
    before: ChainStage | None = None
    for number, name in enumerate(students, start=1):
        chosen = (f"teacher={first}", f"student={name}")
        stage = compose_stage([*overrides, *chosen], number, folder / f"{number}_{name}")
        with open_dict(stage.cfg):
            # Seeds count down, so that the last student has the same initial weights and the same
            # order of images as in a single run with this seed.
            stage.cfg.seed = cfg.seed + len(students) - number
            if before is not None:
                # Name, net and taps as configured for the student, width included.
                teacher = {k: plain(before.cfg.student[k]) for k in ("name", "net", "taps")}
                # What else the config says about a checkpoint is about the first teacher's.
                theirs = dict.fromkeys(
                    ("epoch", "checkpoint_key", "mean", "std", "classes", "num_classes", "update")
                )
                stage.cfg.teacher.update(teacher, checkpoint=before.reference, **theirs)
        before = stage
        yield stage


def _names(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """The model names in `stages`."""
    names = list_setting(cfg, "stages", "names of models", "[resnet56,resnet32,resnet8]")
    given = {override.lstrip("+").split("=")[0] for override in overrides}
    for key in sorted(given & {"teacher", "student", "student.checkpoint"}):
        raise UserError(f"{key}=…: stages=[…] defines the teachers and students; remove {key}")
    try:
        for name in names:
            model_config(str(name))
    except UserError as error:
        raise UserError(f"stages=[{','.join(map(str, names))}]: {error}") from error
    return names


def separate_seeds(stages: Sequence[ChainStage]) -> None:
    """Give the first teacher another seed if a stage's student would start from its weights.

    Two generations with equal initial weights would be one net trained twice; Furlanello et al.
    initialise each generation at random.
    """
    teacher = stages[0].cfg.teacher
    equal = [stage for stage in stages if _same_initial_weights(stage, teacher)]
    if equal and teacher.checkpoint is None:
        old, new = teacher.training.seed, max(stage.cfg.seed for stage in stages) + 1
        log.info(
            "teacher.training.seed=%d instead of %d, with which the teacher would start from the "
            "same weights as %s",
            *(new, old, equal[0]),
        )
        for stage in stages:
            stage.cfg.teacher.training.seed = new


def _same_initial_weights(stage: ChainStage, teacher: DictConfig) -> bool:
    student = stage.cfg.student
    same_seed = student.checkpoint is None and stage.cfg.seed == teacher.training.seed
    return same_seed and plain(student.net) == plain(teacher.net)
