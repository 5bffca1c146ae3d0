"""Runs that have no result, by the name that a reader knows them by."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from kd.io.documents import read_yaml
from kd.io.printable import printable
from kd.io.run_folder import RunFolder
from kd.reports.leaderboard import Leaderboard
from kd.reports.runs import Excluded

_STATES = ("unfinished", "failed", "broken")


def lost_runs(board: Leaderboard) -> dict[str, list[str]]:
    """Return the runs without a usable result by their state, such as `kd seed 0`.

    Trials of searches are not among them: see `lost_trials`.
    """
    searches = _searches(board)
    found: dict[str, list[str]] = defaultdict(list)
    for item in board.excluded:
        if item.state in _STATES and item.folder.parent not in searches:
            found[item.state].append(_name(item.folder))
    return found


def lost_trials(board: Leaderboard, search: Path) -> list[Excluded]:
    """Return the trials of a search that are unfinished, failed or broken."""
    items = (item for item in board.excluded if item.state in _STATES)
    return [item for item in items if item.folder.parent == search]


def _searches(board: Leaderboard) -> set[Path]:
    return {trial.folder.parent for trial in board.trials}


def _name(folder: Path) -> str:
    """Method and seed, as the run's config has them; the folder's name if it cannot be read."""
    try:
        config = read_yaml(RunFolder(folder).config)
    except (OSError, ValueError):
        config = None
    method = config.get("method") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(method, Mapping):
        return printable(folder.name)
    return printable(f"{method.get('name')} seed {config.get('seed')}")
