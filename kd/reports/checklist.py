"""A reproducibility checklist, filled from what the runs have recorded.

Its questions are those of Pineau et al. 2021, "Improving Reproducibility in Machine Learning
Research" (https://arxiv.org/abs/2003.12206), that a sweep can answer. What no run records is left
open for the author.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kd.reports.about import About, title, versions
from kd.reports.budget import budget, trial_hours
from kd.reports.columns import spread
from kd.reports.labels import shown
from kd.reports.leaderboard import Leaderboard
from kd.reports.lost import lost_runs
from kd.reports.markdown import escape_markdown
from kd.reports.settings import ROLES
from kd.reports.statistics import LEVEL
from kd.reports.summary import common_overrides, count, missing_seeds

_MAX_VALUES = 12  # of one setting
_SELECTION = (
    "the epoch with the best validation figure, the latest of equal ones; the test set is "
    "evaluated once for it, and once for the last epoch"
)
_TESTS = f"two-sided paired t test by seed, Holm's correction over the report, level {LEVEL:g}"
_HARDWARE = ("trainer.accelerator", "trainer.devices", "trainer.precision")


class Answer(NamedTuple):
    """An item of the checklist.

    Attributes:
        question: what a reader asks.
        text: the answer; empty: the author fills it in.
    """

    question: str
    text: str


def checklist(board: Leaderboard, about: About) -> str:
    """Return the checklist as Markdown: `[x]` where the runs answer, `[ ]` for the author."""
    lines = [
        f"- [{'x' if item.text else ' '}] **{escape_markdown(item.question)}** "
        + (escape_markdown(item.text) or "(not recorded; fill in)")
        for item in answers(board, about)
    ]
    head = f"# Reproducibility checklist: {escape_markdown(title(about).partition(': ')[2])}"
    return "\n".join([head, "", *lines, "", "## Validation beside test", "", _table(board)]) + "\n"


def answers(board: Leaderboard, about: About) -> Iterator[Answer]:
    """Yield the items that are no table; without a finished run, what only runs tell is open."""
    results = [run.result for run in board.runs]
    yield Answer("Runs", _runs(board) if results else "")
    yield Answer("Seeds", "; ".join(f"{g.title}: {_listed(g.seeds)}" for g in board.groups))
    yield Answer("Missing results", "; ".join(_missing(board)) or ("none" if results else ""))
    tried = "; ".join(bounds(board)) or "none was varied between rows"
    yield Answer("Settings tried", tried if results else "")
    yield Answer("Search", "; ".join(budget(board)))
    yield Answer("Selection rule", _SELECTION if results else "")
    yield Answer("Choice of settings between rows", "")
    yield Answer("Tests", _TESTS if results else "")
    yield Answer("Data", _listed({f"{r['data']} ({_fingerprint(r)})" for r in results}))
    yield Answer("Sizes", _sizes(results))
    yield Answer("Compute", _compute(board))
    yield Answer("Accelerator, devices and precision", _hardware(board))
    yield Answer("Model of the processor", "")
    yield Answer("Versions", dict(versions(board))["the runs"] if _have_versions(results) else "")
    yield Answer("Code", _listed({str(c) for r in results if (c := r.get("git_commit"))}))
    yield Answer("Command of the runs", " ".join(common_overrides(board)))
    yield Answer("Command of this report", about.command)
    yield Answer("Licence and origin of the data", "")


def bounds(board: Leaderboard) -> list[str]:
    """Return every setting that differs between rows, by method, with the values that were run.

    Trials of `kd.search` have no test figures and are not among the rows: see `budget`.
    """
    found: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for row in board.rows:
        for key, value in row.settings.items():
            if key not in (*ROLES, "control") and not key.startswith(("student.", "teacher.")):
                found[str(row.settings["method"])][key].add(value)
    return [
        f"{method}: {key} = {_listed(map(shown, sorted(values, key=_order)))}"
        for method, settings in found.items()
        for key, values in settings.items()
        if len(values) > 1
    ]


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _runs(board: Leaderboard) -> str:
    states = Counter(item.state for item in board.excluded)
    states["left out"] -= len(board.trials)
    rest = "".join(f", {number} {state}" for state, number in (+states).items())
    trials = f", {count(len(board.trials), 'trial')} of searches" if board.trials else ""
    return f"{len(board.runs)} completed in {count(len(board.rows), 'row')}{rest}{trials}"


def _missing(board: Leaderboard) -> Iterator[str]:
    """Seeds that a row lacks, and runs that have no result; a whole row may be among these."""
    yield from (" ".join(pair) for pair in missing_seeds(board))
    for state, names in lost_runs(board).items():
        yield f"{state}: {_listed(names)}"


def _have_versions(results: list[dict[str, Any]]) -> bool:
    return any(result.get("versions") for result in results)


def _sizes(results: list[dict[str, Any]]) -> str:
    sizes = {tuple(r.get(f"{split}/images") for split in ("train", "val", "test")) for r in results}
    known = [size for size in sizes if None not in size]
    return _listed(f"{a} training, {b} validation, {c} test" for a, b, c in sorted(known))


def _compute(board: Leaderboard) -> str:
    """Hours of students, of the teachers that were trained within these runs, and of trials."""
    results = [run.result for run in board.runs]
    keys = ("fit_seconds", "teacher/seconds")
    students, teachers = (sum(float(r.get(key) or 0) for r in results) / 3600 for key in keys)
    runs = (
        f"{students:.2f} hours of training the students, {teachers:.2f} hours of teachers that "
        "were trained within these runs"
    )
    found = [text for text in (runs * bool(results), trial_hours(board.trials)) if text]
    return "; ".join([*found, "evaluation and failed runs not included"]) if found else ""


def _hardware(board: Leaderboard) -> str:
    found = {
        f"{key} = {shown(row.settings[key])}"
        for row in board.rows
        for key in _HARDWARE
        if key in row.settings
    }
    threads = {count(n, "CPU thread") for run in board.runs if (n := run.result.get("threads"))}
    return _listed(found | threads)


def _fingerprint(result: dict[str, Any]) -> str:
    return str(result.get("data/fingerprint") or "not recognised")


def _listed(values: Iterable[object]) -> str:
    texts = [str(v) for v in (sorted(values, key=str) if isinstance(values, set) else values)]
    more = len(texts) - _MAX_VALUES
    return ", ".join(texts[:_MAX_VALUES]) + (f" and {more} more" if more > 0 else "")


def _table(board: Leaderboard) -> str:
    lines = ["| group | row | runs | validation | test |", "| --- | --- | --: | --: | --: |"]
    for group in board.groups:
        for row in group.rows:
            figures = (spread(row, key) for key in (row.figure.val, row.figure.test))
            names = map(escape_markdown, (group.title, row.label))
            lines.append(f"| {' | '.join([*names, str(len(row.runs)), *figures])} |")
    return "\n".join(lines)
