"""Summary lines of a report: the runs compared, their common overrides, seeds and teachers."""

from collections import Counter

from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.origin import teachers

# Overrides that say nothing about an experiment: paths, seeds, output.
_UNIMPORTANT = ("paths.", "hydra.", "seed=", "logger=", "trainer.enable_progress_bar")


def summary(board: Leaderboard) -> list[tuple[str, str]]:
    """Return what is compared, as pairs of a term and its description."""
    runs, states = board.runs, Counter(item.state for item in board.excluded)
    found = f"{count(len(runs), 'finished run')} in {count(len(board.rows), 'row')}"
    rest = "".join(f", {n} {state}" for state, n in sorted(states.items()))
    teachers = f"; {count(board.teachers, 'teacher run')} not compared" if board.teachers else ""
    commits = {str(run.result.get("git_commit"))[:12] for run in runs} - {"None"}
    lines = [
        ("runs", found + rest + teachers),
        ("common overrides", " ".join(common_overrides(board))),
    ]
    for group in board.groups:
        seeds = ", ".join(map(str, group.seeds))
        scores = ", ".join(f"{name} {100 * x:.2f}" for name, x in group.teachers.items())
        teacher = f"; teacher test {group.figure.words}: {scores}" if scores else ""
        text = f"seeds {seeds}; baseline {group.baseline.label}{teacher}{_several_teachers(group)}"
        lines.append((group.title, text))
    lines.append(("git commit", ", ".join(sorted(commits)) + _warning(commits)))
    return [(term, text) for term, text in lines if text]  # no common overrides, unknown commit


def _several_teachers(group: Group) -> str:
    """Name the rows whose seeds had different teachers; empty if there are none."""
    counts = {row.label: teachers([run.result for run in row.runs.values()]) for row in group.rows}
    named = [f"{label} ({count})" for label, count in counts.items() if count > 1]
    said = "; several teachers of one recipe, with different weights, in: "
    return said + ", ".join(named) if named else ""


def count(number: int, thing: str) -> str:
    """Return a number of things in words: `1 row`, `2 rows`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _warning(commits: set[str]) -> str:
    return " (the runs were made by different versions of the code)" if len(commits) > 1 else ""


def common_overrides(board: Leaderboard) -> list[str]:
    """Return the overrides that are on every run's command line, without paths and seeds."""
    given = [run.overrides for run in board.runs]
    if not given:
        return []
    everywhere = [word for word in given[0] if all(word in overrides for overrides in given)]
    return [word for word in everywhere if not word.lstrip("+").startswith(_UNIMPORTANT)]


def missing_seeds(board: Leaderboard) -> list[tuple[str, str]]:
    """Return the rows that lack seeds which other rows of their group have."""
    found = []
    for group in board.groups:
        for row in group.rows:
            lacking = [str(seed) for seed in group.seeds if seed not in row.runs]
            if lacking:
                found.append((f"{row.label} ({group.title})", f"no seed {', '.join(lacking)}"))
    return found
