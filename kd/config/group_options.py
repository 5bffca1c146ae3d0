"""Checks of overrides that choose an option of a config group."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override

from kd.config.grammar import shorten
from kd.errors import closest, nearest

# Groups whose options are mappings of parts, so that several can be chosen at once
_SEVERAL = ("callbacks", "logger", "experiment", "debug", "hydra/callbacks")
# Extras of pyproject.toml that install a launcher
LAUNCHERS = {
    "joblib": "sweep", "submitit_local": "cluster", "submitit_slurm": "cluster", "slurm": "cluster",
    "ray": "ray",
}  # fmt: skip
# Options as they are called elsewhere
_FAMILIAR = {
    "trainer": {"cuda": "gpu", "nvidia": "gpu", "metal": "mps", "apple": "mps", "tpu": "auto"},
    "method": {"crossentropy": "ce", "cross_entropy": "ce", "hinton": "kd", "attention": "at"},
    "optimizer": {"nesterov": "sgd", "momentum": "sgd"},
    "logger": {"tb": "tensorboard", "false": "none", "off": "none"},
}


@dataclass(frozen=True)
class Choice:
    """What an override chooses in a config group.

    Attributes:
        problems: one message for each wrong option.
        word: the override with the nearest options in place of wrong ones; None where there are
            none, so that keys of the group cannot be checked.
    """

    problems: list[str]
    word: str | None


def check_choice(override: Override, options: list[str]) -> Choice:
    """Check an override of a config group.

    Args:
        override: the override; a mapping as its value is a setting, not a choice.
        options: of its group.
    """
    word = override.input_line or ""
    if override.is_delete() or isinstance(override.value(), dict):
        return Choice([], word)
    place, problems, used = override.get_key_element(), [], []
    for value in _values(override):
        problem, option = _check_one(override.key_or_group, place, value, options)
        problems += [problem] if problem else []
        used += [option] if option else []
    if not problems:
        return Choice([], word)
    return Choice(problems, f"{place}={','.join(used)}" if used else None)


def _values(override: Override) -> list[Any]:
    if not override.is_discrete_sweep():
        return [override.value()]
    found = [getattr(value, "text", value) for value in override.sweep_iterator()]
    return found or [(override.input_line or "").partition("=")[2]]  # a glob without a match


def _check_one(
    group: str, place: str, value: Any, options: list[str]
) -> tuple[str | None, str | None]:
    """Return what is wrong with one option of a group, if anything, and the option meant."""
    valid = f"valid: {', '.join(options)}"
    shown = shorten(f"{place}={_text(value)}")
    if isinstance(value, list) and group in _SEVERAL:
        wrong = [v for v in value if v not in options]
        return (f"{shown}: {nearest(wrong[0], options)}" if wrong else None), None
    if isinstance(value, list):
        several = ",".join(map(str, value))
        sweep = f"a sweep over them is -m {place}={several}; " if len(value) > 1 else ""
        return f"{shown}: a list, where one option is chosen; {sweep}{valid}", None
    if value is None or value == "":
        return f"{shown}: a group needs an option, not null; {valid}", None
    name = str(value)
    if isinstance(value, str) and name.removesuffix(".yaml") in options:
        return None, name
    if group == "hydra/launcher" and name in LAUNCHERS:
        return f"{shown} is not installed: pip install -e '.[{LAUNCHERS[name]}]'", None
    familiar = _FAMILIAR.get(group, {}).get(name.lower())
    meant = familiar if familiar in options else closest(name, options)
    hint = f"did you mean {meant!r}? " if meant else ""
    if group == "data" and name.endswith((".csv", ".tsv", ".jsonl")):
        hint = f"a table of texts is data=text data.root={name}; "
    elif group == "data" and "/" in name.replace("\\", "/"):
        hint = f"a folder of images is data=image_folder data.root={name}; "
    if group == "model":
        hint += (
            f"a model is chosen by its role, as student={name} or teacher={name}, and a new one "
        )
        hint += f"is model/{name}.yaml in the folder of --config-dir; "
    return f"{shown}: there is no such option; {hint}{valid}", meant


def _text(value: Any) -> str:
    return "null" if value is None else str(getattr(value, "text", value))


def refuse_addition(override: Override, chosen: Callable[[str], Any]) -> Iterator[str]:
    """Find a `+` before a group that the config has already, and groups that it does not have.

    Args:
        override: the override of a config group.
        chosen: returns the option that a group has now; raises KeyError for other groups.
    """
    group, place = override.key_or_group, override.key_or_group
    place += f"@{override.package}" if override.package else ""
    value = shorten(_text(override.value()))
    try:
        chosen(place)
    except KeyError:
        if override.is_add() or override.is_force_add():
            return
        advice = {
            "model": f"a model is chosen by its role, as student={value} or teacher={value}",
            "data/augment": "the data of this run have no augmentation; leave it out",
            "data/second": f"a second view is added to the config, as +data/second={value}",
            "data/view": "the data of this run have no views; leave it out",
            "search": "only kd.search has a search space",
            "objective": f"a method has several, as objective@method.objectives.NAME={value}",
            "schedule": f"schedule@method.schedules.NAME={value} varies the knob or term NAME",
        }
        yield f"{place}={value}: {advice.get(group, f'this command has no group {place}')}"
    else:
        if override.is_add() or override.is_force_add():
            yield f"+{place}={value}: the config has this group already; leave the + out"
