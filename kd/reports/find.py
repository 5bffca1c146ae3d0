"""Search for run folders below given folders."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from kd.errors import UserError, nearest
from kd.io.run_folder import RunFolder
from kd.reports.runs import RESULT, Excluded, Run, read_run, unfinished_run
from kd.reports.trials import Trial, trial_of

# Not searched: these hold no runs, except `teachers`, whose runs are counted but not compared.
_SKIPPED = {"checkpoints", "csv", "cache", "teachers", "report"}

MAX_RUNS, MAX_FOLDERS = 20_000, 200_000  # in a report


@dataclass
class Found:
    """The runs below some folders, the excluded ones, trials of searches, and the number of
    teacher runs.
    """

    runs: list[Run] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    teachers: int = 0
    trials: list[Trial] = field(default_factory=list)


def find_runs(folders: list[Path]) -> Found:
    """Read every run below the folders, oldest result first.

    A run that cannot be used is listed as excluded; one bad file does not stop a report.

    Raises:
        UserError: a folder does not exist, or none of them holds a run.
    """
    found = Found()
    for folder in dict.fromkeys(folders):
        _check_exists(folder)
        for path, has_result in islice(_run_folders(folder, found), MAX_RUNS + 1):
            if len(found.runs) + len(found.excluded) == MAX_RUNS:
                raise UserError(f"more than {MAX_RUNS} runs below {folder}: name a folder below it")
            read = read_run(path) if has_result else unfinished_run(path)
            if isinstance(read, Run):
                found.runs.append(read)
            else:
                found.excluded.append(read)
                if read.state == "left out" and (trial := trial_of(path)) is not None:
                    found.trials.append(trial)
    if not found.runs and not found.excluded:
        listed = ", ".join(map(str, folders))
        raise UserError(f"no run below {listed}: a run folder contains {RESULT} or .hydra")
    # By age: of repeated runs the latest counts, and the oldest row is the default baseline.
    found.runs.sort(key=lambda run: (run.written, run.folder))
    return found


def check_finished(found: Found, folders: list[Path]) -> None:
    """Refuse folders without any number to report.

    Raises:
        UserError: no run or trial is finished; counts the others.
    """
    if found.runs or found.trials:
        return
    states = Counter(item.state for item in found.excluded)
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    first = found.excluded[0]
    raise UserError(
        f"no finished run below {', '.join(map(str, folders))}: {counts}; the first, "
        f"{first.folder}: {first.why}"
    )


def _check_exists(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise UserError(f"{folder} is a file, not a folder; name the folder of a sweep")
    above = next(parent for parent in folder.absolute().parents if parent.is_dir())
    there = [path.name for path in above.iterdir() if path.is_dir() and path.name[0] != "."]
    raise UserError(f"folder {folder} does not exist; in {above}: {nearest(folder.name, there)}")


def _run_folders(root: Path, found: Found) -> Iterator[tuple[Path, bool]]:
    """Yield run folders and whether they have a result; count the teachers on the way."""
    for number, (path, folders, files) in enumerate(os.walk(root)):  # follows no links
        if number == MAX_FOLDERS:
            raise UserError(f"more than {MAX_FOLDERS} folders below {root}: name one below it")
        # Also something of another kind in its place, which os.walk lists as a folder.
        has_result = RESULT in files or RESULT in folders
        if has_result or RunFolder(Path(path)).config.parent.is_dir():
            yield Path(path), has_result
        if "teachers" in folders:
            found.teachers += len(list(Path(path, "teachers").glob(f"[!.]*/{RESULT}")))
        # os.walk descends into what is left in the list; hidden folders hold no runs.
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and f[0] != ".")
