"""The stages of a chain, checked before the first one runs."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from kd.build.method import Method
from kd.build.parts import distiller_class
from kd.chains.nets import net_stages, separate_seeds
from kd.chains.route import route_stages
from kd.chains.stage import ChainStage
from kd.errors import UserError
from kd.validation.check import check_config


def plan(overrides: Sequence[str], folder: Path) -> list[ChainStage]:
    """Compose and check all stages; each is a run that `kd.train` could make of its config.

    Args:
        overrides: the command line, which holds for every stage.
        folder: the chain's folder, in which every stage has a folder of its own.

    Raises:
        UserError: the chain cannot run; names the stage if only that one is at fault.
    """
    cfg = compose("chain", overrides=list(overrides))
    _check_chain(cfg)
    # All stages before the first runs: a mistake in the last one would otherwise cost hours.
    make_stages = net_stages if cfg.stages is not None else route_stages
    stages = list(make_stages(cfg, overrides, folder))
    methods = []
    for stage in stages:
        try:
            methods.append(check_config(stage.cfg).method)
        except UserError as error:
            raise UserError(f"{stage}: {error}") from error
    _check_method(stages[0].cfg.method.name, methods[0])  # all stages have the same
    separate_seeds(stages)
    return stages


def _check_chain(cfg: DictConfig) -> None:
    if (cfg.stages is None) == (cfg.route is None):
        raise UserError(
            "a chain needs either stages=[resnet56,resnet32,resnet8], nets of which each teaches "
            "the next, or route=[5,10,20], epochs of the teacher's own training"
        )
    if distiller_class(cfg).teacher_kind != "pretrained":
        raise UserError(f"mode={cfg.mode.name} has no pretrained teacher; use mode=offline")
    if cfg.resume is not None:
        raise UserError(
            f"resume={cfg.resume}: a chain resumes by itself; pass its folder as hydra.run.dir=…"
        )
    if not isinstance(cfg.seed, int):
        raise UserError(f"seed={cfg.seed}: must be a whole number ≥ 0")


def _check_method(name: str, method: Method) -> None:
    if not method.needs_teacher:
        raise UserError(f"method={name} uses no teacher; a chain needs one that does")
    if any(objective.changes_student for objective in method.objectives.values()):
        raise UserError(
            f"method={name} may deploy another net than the student, which no next stage can load; "
            "choose another method"
        )
