"""Identity of a run: what its numbers depend on, compared with the run that it continues."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from kd.build.given import GivenParts
from kd.config.experiment import experiment_settings
from kd.config.identity import Identity, content_hash
from kd.data.base import DataModule
from kd.errors import UserError
from kd.training.acquired import AcquiredTeacher
from kd.training.fingerprints import data_fingerprint, recipe_hash, weights_hash
from kd.training.resume import Resumed

log = logging.getLogger(__name__)


def identify(
    cfg: DictConfig,
    data: DataModule,
    acquired: AcquiredTeacher | None,
    student: nn.Module,
    given: GivenParts,
    resumed: Resumed | None,
) -> Identity:
    """Return the identity of a run that is about to train.

    Args:
        cfg: the run's config.
        data: the run's data.
        acquired: its teacher; None: it has none.
        student: with its initial weights.
        given: parts that the caller has built.
        resumed: the state that the run continues from.

    Raises:
        UserError: data, teacher or `student.checkpoint` are others than in the run that it
            continues.
    """
    fingerprint = data_fingerprint(data)
    starts = given.student is not None or start_checkpoint(cfg) is not None
    identity = Identity(
        experiment_settings(cfg),
        fingerprint,
        None if acquired is None else acquired.weights_hash,
        weights_hash(student) if starts else None,
        unrecognised=None if fingerprint else uuid.uuid4().hex[:12],
    )
    if resumed is None:
        return identity
    _check_unchanged(identity, resumed, data, start_checkpoint(cfg))
    then = resumed.recorded
    # The weights that a given student has now are replaced by those of the checkpoint.
    return replace(
        identity,
        changes=resumed.changes,
        start=then.start,
        unrecognised=then.unrecognised or identity.unrecognised,
    )


def start_checkpoint(cfg: DictConfig) -> str | None:
    """Return the path of the student's initial weights; None: they are drawn from the seed."""
    found: str | None = cfg.student.get("checkpoint")  # absent from a teacher's own training
    return found


def _check_unchanged(
    identity: Identity, resumed: Resumed, data: DataModule, checkpoint: str | None
) -> None:
    then = resumed.recorded
    if identity.data is None and then.data is None:
        log.warning(
            "data %r: %s; make sure that they are those that the run began with",
            *(data.name, data.limits.registry),
        )
    problems = [
        difference(f"data {data.name!r}", then.data, identity.data),
        difference("the teacher's weights", then.teacher, identity.teacher),
    ]
    if checkpoint is not None:
        problems.append(difference(f"student.checkpoint={checkpoint}", then.start, identity.start))
    if changed := " and ".join(filter(None, problems)):
        raise UserError(
            f"resume={resumed.checkpoint}: {changed} changed since the run began; restore what it "
            "began with, or start a new run in another folder without resume"
        )


def difference(what: str, then: Any, now: Any) -> str:
    """Name a fingerprint that has changed; empty: it has not."""
    return "" if then == now else f"{what} (fingerprint {then} then, {now} now)"


def recipe_of(
    cfg: DictConfig, data: DataModule, identity: Identity, acquired: AcquiredTeacher | None
) -> str | None:
    """Hash what all seeds of an experiment have in common; None for unrecognised data.

    A teacher, and initial weights, that are a run of `kd` count by the recipe of that run: they may
    differ by the seed as well. So may the validation split, with `data.split_seed=${seed}`.
    """
    if identity.data is None:
        return None
    settings = experiment_settings(cfg, resolve=False)
    settings.pop("seed", None)
    if acquired is None:  # what the config says about a teacher is not used
        settings = {k: v for k, v in settings.items() if not k.startswith("teacher.")}
    teacher = None if acquired is None else acquired.recipe_hash or acquired.weights_hash
    start, path = identity.start, start_checkpoint(cfg)
    if path is not None:
        start = recipe_hash(Path(path)) or start
    content = _without_split(data) if _splits_by_seed(settings) else identity.data
    return content_hash([settings, content, teacher, start, identity.changes])


def _splits_by_seed(settings: Mapping[str, Any]) -> bool:
    """Whether each seed has a validation split of its own, by unresolved settings."""
    return "${" in str(settings.get("data.split_seed"))


def _without_split(data: DataModule) -> list[str]:
    """Identity of all images and labels, whatever their split."""
    return [data.inputs_fingerprint(split) for split in ("train", "test")]
