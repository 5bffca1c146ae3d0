"""Compatibility check between a checkpoint and the distiller that resumes from it."""

from collections.abc import Mapping, Set
from typing import Any

from kd.distillers.stages import Plan
from kd.errors import UserError


def check_compatible(checkpoint: Mapping[str, Any], keys: Set[str], plan: Plan) -> None:
    """Refuse a checkpoint of other nets, objectives, stages or schedules.

    Lightning's own strictness is off, because a checkpoint holds no teacher.

    Args:
        checkpoint: Lightning's, with the entries of `Distiller.on_save_checkpoint`.
        keys: of the distiller's state dict.
        plan: of the distiller.

    Raises:
        UserError: names up to five missing and five unexpected keys, or the stages that differ.
    """
    saved = checkpoint["state_dict"].keys()
    if keys != saved:
        missing, unexpected = sorted(keys - saved)[:5], sorted(saved - keys)[:5]
        raise UserError(
            f"the checkpoint belongs to another run: missing {missing}, unexpected {unexpected}; "
            "resume with the method, student and data it was written with"
        )
    stages, schedules = checkpoint["stages"], checkpoint["plan"]["schedules"]
    if stages != [s.name for s in plan.stages] or len(schedules) != len(plan.schedules):
        raise UserError(
            f"the checkpoint has stages {stages} and {len(schedules)} schedules, the run has "
            f"{[s.name for s in plan.stages]} and {len(plan.schedules)}; resume with the method's "
            "stages and schedules unchanged"
        )
