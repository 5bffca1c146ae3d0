"""Normalisation of the images that a teacher was trained on, where it is not the data's."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from kd.config.compose import plain
from kd.data.base import DataModule
from kd.data.splits import Normalisation, check_normalisation
from kd.errors import UserError
from kd.io.checkpoint.recorded import recorded_normalisation
from kd.models.published import published_normalisation
from kd.teachers.renormalise import Renormalise

log = logging.getLogger(__name__)


def renormalise(
    cfg: DictConfig, data: DataModule, net: nn.Module, path: Path | None, foreign: bool
) -> Renormalise | None:
    """Return the conversion of the student's images to the teacher's; None: they are the same.

    The teacher's mean and std are those of `teacher.mean` and `.std`, else those recorded with its
    weights, else, for a foreign checkpoint of a net of timm or torchvision, those published with
    the net, else the data's.

    Args:
        cfg: the run's config.
        data: the run's data, set up.
        net: the teacher.
        path: folder or file of its weights; None: it was given as a module.
        foreign: its weights were not trained here, so that the data's normalisation is a guess.

    Raises:
        UserError: the teacher's mean and std are not of the data's channels.
    """
    found = _of_teacher(cfg, net, path, foreign)
    name, own = cfg.teacher.name, data.normalisation
    if found is None:
        if foreign and path is not None and own is not None:
            _log_guess(name, path, own)
        return None
    wanted, source = found
    if own is None:
        log.warning(
            "teacher %s: %s names mean and std of its images, and the data do not say how theirs "
            "were normalised; both nets get the same images. Give the data's mean and std",
            *(name, source),
        )
        return None
    if _equal(wanted, own):
        return None
    mean, std = wanted
    if len(mean) != data.in_channels:
        raise UserError(
            f"teacher {name}: {source} names mean and std of {len(mean)} channels, and the images "
            f"have {data.in_channels}; set teacher.mean and teacher.std"
        )
    log.info(
        "teacher %s: its images are normalised with mean %s, std %s (%s)",
        *(name, _rounded(mean), _rounded(std), source),
    )
    return Renormalise(own, wanted)


def _log_guess(name: str, path: Path, own: Normalisation) -> None:
    log.info(
        "teacher %s: %s does not record how its images were normalised; it gets the data's "
        "(mean %s, std %s). Set teacher.mean and teacher.std if it was trained otherwise",
        *(name, path, _rounded(own[0]), _rounded(own[1])),
    )


def _of_teacher(
    cfg: DictConfig, net: nn.Module, path: Path | None, foreign: bool
) -> tuple[Normalisation, str] | None:
    mean, std = plain(cfg.teacher.get("mean")), plain(cfg.teacher.get("std"))
    given = check_normalisation(mean, std)
    if given is not None:
        return given, "teacher.mean and teacher.std"
    carried: Normalisation | None = getattr(net, "normalisation", None)  # a student of kd.load
    if path is None:
        return None if carried is None else (carried, "the student that was given")
    recorded = recorded_normalisation(path)
    if recorded is not None:
        return (recorded.mean, recorded.std), str(recorded.file)
    configured: Any = plain(cfg.teacher.net)
    published = published_normalisation(net, configured) if foreign else None
    return None if published is None else (published, "published with the net")


def _equal(one: Normalisation, other: Normalisation) -> bool:
    return all(list(a) == list(b) for a, b in zip(one, other, strict=True))


def _rounded(values: list[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
