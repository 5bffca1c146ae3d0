"""Checks of methods and modes with two views of each image."""

from collections.abc import Iterator, Mapping
from typing import Literal

from omegaconf import DictConfig

from kd.build.parts import distiller_class, step_owner
from kd.config.members import is_ensemble
from kd.data.base import DataModule
from kd.objectives.base import Objective
from kd.validation.mode import exchanges_images


def views_wanted(
    cfg: DictConfig, objectives: Mapping[str, Objective]
) -> Literal["", "strong", "same"]:
    """Return the kind of second view that a run needs, as `DataModule.two_views`; "": none."""
    if any(objective.two_views for objective in objectives.values()):
        return "strong"
    mode = distiller_class(cfg).two_views
    return "same" if mode == "nets" and cfg.mode.distiller.get("views", 1) == 2 else ""


def view_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find a mode or a teacher that has one view, for an objective that compares two."""
    compared = [name for name, objective in objectives.items() if objective.two_views]
    for name in compared:
        place = f"method.objectives.{name} compares two views of each image"
        if distiller_class(cfg).two_views != "rows":
            yield f"{place}, and {step_owner(cfg)} gives it one; use mode=offline"
        if is_ensemble(cfg):
            yield f"{place}, and teacher={cfg.teacher.name} sees one; use a single teacher"
        if exchanges_images(cfg):
            yield f"{place}, and control={cfg.control} exchanges one; use control=untrained"


def data_problems(
    cfg: DictConfig, data: DataModule, objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find data without second views where they are needed, and a second view that is not read."""
    if views_wanted(cfg, objectives):
        if data.limits.second:
            yield (
                f"method={cfg.method.name} with mode={cfg.mode.name} needs two views of each "
                f"image, and data {data.name!r} have none: {data.limits.second}"
            )
    elif cfg.data.get("second") is not None:
        yield (
            f"data.second is set, and method={cfg.method.name} with mode={cfg.mode.name} reads one "
            "view of each image; leave it out"
        )
