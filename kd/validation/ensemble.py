"""Checks of an ensemble teacher: its members, and their combination."""

from collections.abc import Iterator

from omegaconf import DictConfig, ListConfig

from kd.config.compose import model_config
from kd.config.members import member_names
from kd.errors import UserError, nearest
from kd.teachers.weighting import BY_SAMPLE, COMBINATIONS, WEIGHTINGS
from kd.validation.augment import mixing_problems
from kd.validation.numbers import is_number


def settings_problems(cfg: DictConfig) -> Iterator[str]:
    """Find wrong values in the settings of an ensemble."""
    teacher = cfg.teacher
    if not isinstance(teacher.members, ListConfig) or len(teacher.members) < 2:
        yield (
            f"teacher.members={teacher.members}: must be a list of two models or more, "
            "such as [resnet20,resnet14]; for a single one use teacher=NAME"
        )
        return
    yield from _unknown_models(cfg)
    for key, valid in (("combine", COMBINATIONS), ("weighting", WEIGHTINGS)):
        if teacher[key] not in valid:
            yield f"teacher.{key}={teacher[key]}: there is no such {key}; " + nearest(
                teacher[key], valid
            )
    yield from _checkpoints(cfg)
    yield from _weights(cfg)
    names = member_names(teacher.members)
    if teacher.features is not None and teacher.features not in names:
        hint = nearest(teacher.features, names)
        yield f"teacher.features={teacher.features}: there is no such member; {hint}"


def _unknown_models(cfg: DictConfig) -> Iterator[str]:
    for model in dict.fromkeys(cfg.teacher.members):
        try:
            model_config(model)
        except UserError as error:
            yield f"teacher.members: {error}"


def _checkpoints(cfg: DictConfig) -> Iterator[str]:
    paths, count = cfg.teacher.checkpoints, len(cfg.teacher.members)
    if cfg.teacher.checkpoint is not None:
        yield (
            f"teacher.checkpoint={cfg.teacher.checkpoint}: an ensemble takes teacher.checkpoints, "
            f"a list of {count} (null: from the registry, or trained now)"
        )
    if paths is None:
        return
    if not isinstance(paths, ListConfig) or len(paths) != count:
        yield f"teacher.checkpoints={paths}: must be a list of {count}, one for each member"
    elif not all(isinstance(path, str | None) for path in paths):
        yield f"teacher.checkpoints={paths}: each must be a path or null"


def _weights(cfg: DictConfig) -> Iterator[str]:
    weights, weighting = cfg.teacher.weights, cfg.teacher.weighting
    count = len(cfg.teacher.members)
    if weighting != "fixed":
        if weights is not None:
            yield (
                f"teacher.weights={weights}: teacher.weighting={weighting} computes the weights; "
                "use teacher.weighting=fixed"
            )
        return
    listed = list(weights) if isinstance(weights, ListConfig) else []
    # Divided by their sum later, so that only a sum of 0 is excluded.
    numbers = all(is_number(weight) and weight >= 0 for weight in listed)
    if len(listed) != count or not numbers or sum(listed) <= 0:
        yield (
            f"teacher.weights={weights}: teacher.weighting=fixed needs {count} numbers ≥ 0, "
            "one for each member, and one of them > 0"
        )


def combination_problems(cfg: DictConfig) -> Iterator[str]:
    """Find settings of an ensemble that exclude each other, or the data's augmentation."""
    teacher = cfg.teacher
    if teacher.combine == "losses" and teacher.weighting in BY_SAMPLE:
        yield (
            f"teacher.combine=losses: a loss is a mean over the batch, but teacher.weighting="
            f"{teacher.weighting} weights each sample; teacher.combine=probabilities has the "
            "gradient of the weighted sum of KL terms"
        )
    if teacher.weighting == "confidence":
        yield from mixing_problems(cfg, "teacher.weighting=confidence")


def taps_problem(cfg: DictConfig, place: str, taps: tuple[str, ...]) -> Iterator[str]:
    """Find taps that an objective reads although no member provides them.

    Args:
        cfg: the run's config.
        place: the objective's place in the config.
        taps: the teacher's taps that it reads.
    """
    if not taps:
        return
    names = list(member_names(cfg.teacher.members))
    if cfg.teacher.combine == "losses":
        yield (
            f"{place} reads the teacher's {', '.join(taps)}, which are of one member, but "
            "teacher.combine=losses has a loss for each; use probabilities or logits"
        )
    elif cfg.teacher.features is None:
        yield (
            f"{place} reads the teacher's {', '.join(taps)}, but teacher=ensemble is several nets; "
            f"name one as teacher.features={names[0]} (or {', '.join(names[1:])})"
        )
