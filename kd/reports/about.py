"""What stands around the numbers: what was compared, how to read it, what it was made with."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from kd.reports.leaderboard import Leaderboard
from kd.reports.statistics import LEVEL

_LIBRARIES = ("kd", "numpy", "scipy", "matplotlib")
_PLACES = ("paths.", "hydra.", "seed=", "logger=", "trainer.enable_progress_bar")

DEFINITIONS = (
    ("row", "Runs that were told the same, but for the seed; named by what differs between rows."),
    (
        "test accuracy",
        "On the test set, in percent, with the weights that were best on validation: mean ± "
        "standard deviation over seeds. The 95 % interval is that of the t distribution, cut at 0 "
        "and 100.",
    ),
    (
        "difference",
        "Test accuracy minus the baseline's at the same seed, in percentage points, averaged over "
        "the seeds both have; in brackets its 95 % percentile bootstrap interval. Of two or three "
        "seeds the bootstrap makes too narrow an interval, and of equal differences none; the "
        "verdict does not rest on it.",
    ),
    (
        "p, Holm",
        "Two-sided paired t test, corrected by Holm for all comparisons of this report. Where "
        "all seeds differ by exactly the same, the exact sign-flip test takes its place.",
    ),
    (
        "verdict",
        f"Better or worse where the corrected p is at most {LEVEL:g}: an error anywhere in the "
        "report is then made in at most one of twenty such reports. Cannot distinguish: these "
        "seeds do not tell, which is not to say that there is no difference. Below two common "
        "seeds there is no verdict.",
    ),
    (
        "gap recovered",
        "(row − labels alone) / (teacher − labels alone), of mean test accuracies over "
        "common seeds; 100 % is the teacher's. None where the teacher is no better than labels "
        "alone.",
    ),
    (
        "cost",
        "The student's parameters; images trained a second, seconds of training and images the "
        "teacher looked at in the run itself, as means over seeds. Answers that were kept from "
        "earlier runs cost no forward.",
    ),
    (
        "order",
        "By test accuracy. To choose a setting, go by validation: the best of many test "
        "accuracies flatters.",
    ),
)


class About(NamedTuple):
    """How a report was made.

    Attributes:
        command: what makes it again.
        sources: the folders that were read.
        samples: of the bootstrap.
        made: the time, as text.
    """

    command: str
    sources: Sequence[str]
    samples: int
    made: str


class Drawing(NamedTuple):
    """A figure and what is said below it."""

    name: str
    title: str
    caption: str
    svg: str


def title(about: About) -> str:
    """The report's title: what its folders are called."""
    return f"Report: {', '.join(Path(source).resolve().name for source in about.sources)}"


def counted(number: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def summary(board: Leaderboard) -> list[tuple[str, str]]:
    """What was compared, as pairs of a word and what it is."""
    runs, states = board.runs, Counter(item.state for item in board.unfinished)
    found = f"{counted(len(runs), 'finished run')} in {counted(len(board.rows), 'row')}"
    rest = "".join(f", {n} {state}" for state, n in sorted(states.items()))
    teachers = f"; {counted(board.teachers, 'teacher run')} left out" if board.teachers else ""
    commits = {str(run.result.get("git_commit"))[:12] for run in runs} - {"None"}
    lines = [("runs", found + rest + teachers), ("alike in all", " ".join(common(board)))]
    for group in board.groups:
        seeds = ", ".join(map(str, group.seeds))
        of_teachers = [f"{name} {100 * acc:.2f}" for name, acc in group.teachers.items()]
        taught = f"; teacher {', '.join(of_teachers)}" if of_teachers else ""
        lines.append((group.title, f"seeds {seeds}; baseline {group.baseline.label}{taught}"))
    lines.append(("code", ", ".join(sorted(commits)) + _several(commits)))
    return [(word, text) for word, text in lines if text]


def _several(commits: set[str]) -> str:
    return " – the runs come from different states of the code" if len(commits) > 1 else ""


def common(board: Leaderboard) -> list[str]:
    """The overrides that every run was given, places and seeds left out."""
    given = [run.overrides for run in board.runs]
    if not given:
        return []
    everywhere = [word for word in given[0] if all(word in overrides for overrides in given)]
    return [word for word in everywhere if not word.lstrip("+").startswith(_PLACES)]


def missing(board: Leaderboard) -> list[tuple[str, str]]:
    """Rows that lack seeds which other rows of their group have."""
    found = []
    for group in board.groups:
        for row in group.rows:
            lacking = [str(seed) for seed in group.seeds if seed not in row.runs]
            if lacking:
                found.append((f"{row.label} ({group.title})", f"no seed {', '.join(lacking)}"))
    return found


def versions(board: Leaderboard) -> list[tuple[str, str]]:
    """The libraries of the report, and of the runs, several where these differ."""
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
