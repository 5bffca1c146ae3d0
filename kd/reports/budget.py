"""The tuning budget in words: trials, searched settings and hours of the searches in a report."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kd.io.checksums import read_intact
from kd.io.documents import MAX_YAML
from kd.io.printable import printable
from kd.io.regular_files import read_text
from kd.io.run_folder import RunFolder
from kd.io.search_folder import STUDY
from kd.reports.labels import shown
from kd.reports.leaderboard import Leaderboard
from kd.reports.lost import lost_trials
from kd.reports.settings import ROLES, Settings, read_settings
from kd.reports.summary import count
from kd.reports.trials import Trial, searches


def budget(board: Leaderboard) -> list[str]:
    """Return for each search its trials by method and the range of each searched setting.

    The ranges are those that the search has recorded; of a search without a record, those of the
    values that its trials have.

    Example:
        `kd: 20 trials; method.temperature 1 to 10; optimizer.lr 0.005 to 0.5 (logarithmic)`
    """
    return [
        "; ".join([_trials(board, folder, trials), *(_space(folder) or _tried(trials))])
        for folder, trials in searches(board.trials).items()
    ]


def trial_hours(trials: Sequence[Trial]) -> str:
    """Return the hours of training that trials have recorded, in words; empty without trials."""
    if not trials:
        return ""
    known = [trial.seconds for trial in trials if trial.seconds is not None]
    text = f"{sum(known) / 3600:.2f} hours of {count(len(known), 'trial')} of searches"
    unknown = len(trials) - len(known)
    return text + (f"; {unknown} more without a record of time" if unknown else "")


def _trials(board: Leaderboard, folder: Path, trials: Sequence[Trial]) -> str:
    methods = Counter(trial.method for trial in trials)
    words = [f"{printable(name)}: {count(n, 'trial')}" for name, n in methods.items()]
    lost = Counter(item.state for item in lost_trials(board, folder))
    return ", ".join([*words, *(f"{n} {state}" for state, n in lost.items())])


def _space(folder: Path) -> list[str]:
    """The space that a search has recorded; empty if it cannot be read."""
    try:
        parts = (read_intact(folder / STUDY) or {})["space"]
        return [printable(f"{key} {_range(json.loads(part))}") for key, part in parts.items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _range(distribution: dict[str, Any]) -> str:
    """A distribution of Optuna in words."""
    about = distribution["attributes"]
    if "choices" in about:
        return "of " + ", ".join(map(shown, about["choices"]))
    steps = f" in steps of {shown(about['step'])}" if (about["step"] or 1) != 1 else ""
    return f"{shown(about['low'])} to {shown(about['high'])}{steps}" + (
        " (logarithmic)" if about["log"] else ""
    )


def _tried(trials: Sequence[Trial]) -> list[str]:
    """The settings of all trials in which they differ, with the values that they have."""
    settings = [_settings(trial.folder) for trial in trials]
    keys = set.intersection(*(set(each) for each in settings)) - set(ROLES)
    values = {key: {each[key] for each in settings} for key in sorted(keys)}
    return [printable(text) for text in _spans(values)]


def _spans(values: dict[str, set[Any]]) -> Iterator[str]:
    for key, found in values.items():
        numbers = [value for value in found if isinstance(value, int | float)]
        if len(found) > 1 and len(numbers) == len(found):
            yield f"{key} {shown(min(numbers))} to {shown(max(numbers))}"
        elif len(found) > 1:
            yield f"{key} of {', '.join(sorted(map(shown, found)))}"


def _settings(folder: Path) -> Settings:
    try:
        return read_settings(read_text(RunFolder(folder).config, MAX_YAML), teacherless=False)
    except (OSError, ValueError):
        return {}
