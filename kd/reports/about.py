"""A report's title, its command, and the versions of the libraries behind it."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from kd.io.regular_files import real_path
from kd.reports.leaderboard import Leaderboard

_LIBRARIES = ("kd", "numpy", "scipy", "matplotlib")


class About(NamedTuple):
    """How a report was made.

    Attributes:
        command: repeats it.
        sources: the folders that were searched for runs.
        samples: number of bootstrap resamples.
        made: date and time, as text.
    """

    command: str
    sources: Sequence[str]
    samples: int
    made: str


def title(about: About) -> str:
    """Return the title: the names of the folders."""
    return f"Report: {', '.join(real_path(source).name for source in about.sources)}"


def versions(board: Leaderboard) -> list[tuple[str, str]]:
    """Return the library versions of this report and of its runs, which may have several."""
    ours = [f"python {platform.python_version()}", *map(_version, _LIBRARIES)]
    seen: dict[str, set[str]] = {}
    for run in board.runs:
        for name, value in (run.result.get("versions") or {}).items():
            seen.setdefault(name, set()).add(str(value))
    theirs = [f"{name} {' / '.join(sorted(values))}" for name, values in seen.items()]
    return [("this report", ", ".join(ours)), ("the runs", ", ".join(theirs) or "not recorded")]


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"
