"""The first line of a command: nets, data, method and folder of the run that begins."""

import os

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Modules of objectives that read no teacher. Others are assumed to read one: importing them to find
# out would load torch.
_TEACHERLESS = ("kd.objectives.ce.", "kd.objectives.tfkd.")


def headline(cfg: DictConfig, nets: str | None = None) -> str | None:
    """Describe a run in one line, before any heavy library is loaded.

    Args:
        cfg: the run's config, unchecked.
        nets: the nets, where they are not one teacher and one student.

    Returns:
        Such as "kd: resnet20 → resnet8 on digits, method kd, mode offline, seed 0, 40 epochs,
        cpu → outputs/runs/…". None if the config does not resolve, which its check reports, or in
        a process that assists the first one of several devices.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    try:
        words = [
            f"{nets or _nets(cfg)} on {cfg.data.name}",
            f"method {cfg.method.name}",
            f"mode {cfg.mode.name}",
            f"seed {cfg.seed}",
            f"{cfg.trainer.max_epochs} epochs" if cfg.trainer.max_epochs != 1 else "1 epoch",
            _device(cfg),
        ]
        return f"kd: {', '.join(words)} → {cfg.paths.run}"
    except (OmegaConfBaseException, AttributeError):
        return None


def _nets(cfg: DictConfig) -> str:
    """Teachers → student; the student alone without a teacher that is trained beforehand."""
    members, student = OmegaConf.select(cfg, "teacher.members"), str(cfg.student.name)
    terms = [str(term.get("_target_")) for term in cfg.method.objectives.values()]
    if all(term.startswith(_TEACHERLESS) for term in terms):
        return student
    if OmegaConf.is_list(members):
        return f"{' + '.join(map(str, members))} → {student}"
    return student if cfg.teacher.net is None else f"{cfg.teacher.name} → {student}"


def _device(cfg: DictConfig) -> str:
    several = "" if cfg.trainer.devices in (1, "1", "auto") else f"{cfg.trainer.devices} × "
    device = "best device" if cfg.trainer.accelerator == "auto" else cfg.trainer.accelerator
    return f"{several}{device}"
