"""Configs of a search's trials, checked before the first runs."""

from typing import TYPE_CHECKING, Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from kd.config.messages import user_message
from kd.errors import UserError
from kd.tuning.space import Choices, Range, Space, override

if TYPE_CHECKING:
    pass


def check_settings(settings: dict[str, Any]) -> None:
    """Check what is said below `search` beside the space.

    Raises:
        UserError: names every mistake.
    """
    least = {"trials": 1, "seed": 0, "heartbeat": 1, "pruning.startup": 0, "pruning.warmup": 0}
    flat = settings | {f"pruning.{k}": v for k, v in settings["pruning"].items()}
    problems = [
        f"search.{key}={flat[key]}: must be a whole number ≥ {smallest}"
        for key, smallest in least.items()
        if type(flat[key]) is not int or flat[key] < smallest
    ]
    if not isinstance(settings["storage"], str | None):
        problems.append(f"search.storage={settings['storage']}: must be a file or a URL")
    if problems:
        raise UserError("\n  ".join(problems))


def run_overrides(overrides: list[str]) -> list[str]:
    """A command's overrides without those of the search itself: what each of its runs is given."""
    return [text for text in overrides if not _key(text).startswith(("search.", "search="))]


def _key(text: str) -> str:
    """An override without its sign; a deletion gets its end as well."""
    return (text if "=" in text else f"{text}=").lstrip("+~")


def composed(base: list[str], overrides: list[str], **flags: bool) -> DictConfig:
    """The config of `kd.train` with both."""
    return compose("train", merged(base, overrides), **flags)


def merged(base: list[str], overrides: list[str]) -> list[str]:
    """Both, without those of `base` whose key the others give."""
    taken = {text.partition("=")[0] for text in overrides}
    return [text for text in base if _key(text).partition("=")[0] not in taken] + overrides


def checked_space(space: Space, base: list[str]) -> DictConfig:
    """Check the default run, both ends of all ranges, and every choice; return the default's.

    Raises:
        UserError: names the values and what is wrong with the run that has them.
    """
    from kd.validation.check import check_config

    default = composed(base, [])
    check_config(default)
    ranges = {key: part for key, part in space.items() if isinstance(part, Range)}
    corners = [[override(k, part.ends[end]) for k, part in ranges.items()] for end in (0, 1)]
    choices = [(k, v) for k, p in space.items() if isinstance(p, Choices) for v in p.values]
    corners += [[override(key, value), *corners[1]] for key, value in choices]
    for overrides in corners:
        try:
            check_config(composed(base, overrides))
        except Exception as error:
            said = user_message(error)
            if said is None:
                raise
            raise UserError(f"search.space, {' '.join(overrides)}: {said}") from error
    return default


def default_values(space: Space, base: list[str]) -> dict[str, Any]:
    """The values that the space's keys have in a run that nothing varies."""
    cfg = composed(base, [], return_hydra_config=True)
    options = cfg.hydra.runtime.choices
    return {key: options[key] if key in options else OmegaConf.select(cfg, key) for key in space}
