"""Shared parts of the comparison scripts: resumable runs, and tables over common seeds."""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works uninstalled

from kd.chains.summary import CHAIN
from kd.config.compose import CONF_DIR, register_models
from kd.config.overrides import expand_shorthand
from kd.io.checksums import write_json
from kd.io.run_folder import RunFolder
from kd.io.task_figures import task_figure
from kd.reports.statistics import t_interval

Result = dict[str, Any]
# Of a result.json that is kept for a table
KEPT: tuple[str, ...] = (
    *("format", "status", "method", "teacher", "student", "data", "task", "mode", "seed"),
    *("val/acc", "test/acc", "test/nll", "test/agreement", "teacher/test/acc"),
    *("val/map", "test/map", "test/map50", "teacher/test/map", "teacher/test/map50"),
    *("student/params", "teacher/params", "teacher/source", "epochs", "fit_seconds"),
    *("best_epoch", "config_hash", "git_commit", "threads", "versions", "teacher_forwards"),
    *("test/acc_per_class", "teacher/seconds", "teacher/cache_seconds", "runs"),
    *("train/images", "val/images", "test/images"),
)
# Of a result that shares a file with many others
KEPT_IN_ONE = (
    *("seed", "task", "val/acc", "test/acc", "test/acc_last", "teacher/test/acc"),
    *("student/params", "epochs", "fit_seconds", "config_hash", "git_commit"),
)


def jobs(options: argparse.Namespace, rows: Sequence[str]) -> Iterator[tuple[str, int, Path]]:
    """Yield row, seed and folder of every unfinished run of this share."""
    k, n = options.share
    for row, seed in [(row, seed) for seed in options.seeds for row in rows][k::n]:
        folder = options.folder / f"{row}_s{seed}"
        if read(folder).get("status") != "completed":
            yield row, seed, folder


def run_all(
    options: argparse.Namespace,
    rows: Sequence[str],
    task: Callable[[str, int, Path], Result],
    after: Callable[[str, Path], None] | None = None,
) -> NoReturn:
    """Run the unfinished jobs of this share, and end the program.

    Args:
        options: of the command line.
        rows: of the table.
        task: trains a row with a seed in a folder.
        after: called with row and folder of every run that succeeded; None: nothing is done.

    Raises:
        SystemExit: always; with the code 1 if a run failed.
    """
    failed = False
    for row, seed, folder in jobs(options, rows):
        if not attempt(row, seed, folder, partial(task, row, seed, folder)):
            failed = True
        elif after is not None:
            after(row, folder)
    raise SystemExit(failed)


def attempt(row: str, seed: int, folder: Path, task: Callable[[], Result]) -> bool:
    """Run one job and print its test figure; a failure is printed and recorded, not raised.

    Returns:
        Whether it succeeded.
    """
    from hydra import initialize_config_dir

    from kd.io.result_file import write_result

    register_models(CONF_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    succeeded = False
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            result = task()
            line = f"{result[task_figure(result).test]:.4f}"
        succeeded = True
    except Exception as error:
        line = f"{type(error).__name__}: {error}"
        if not read(folder):  # the run failed before it could write a result
            write_result(folder, {"status": "failed", "error": line})
    print(f"{row} seed {seed}: {line}", flush=True)
    return succeeded


def train(folder: Path, overrides: Sequence[str]) -> Result:
    """Do what `python -m kd.train` does, in this process and folder."""
    from hydra import compose

    from kd.training.run import run

    cfg = compose("train", overrides=[f"paths.run={folder}", *map(expand_shorthand, overrides)])
    return dict(run(cfg, folder))


def read(folder: Path) -> Result:
    """Read the summary of a chain or the result of a run; {} if there is neither."""
    for path in (folder / CHAIN, RunFolder(folder).result):
        if path.exists():
            found: Result = json.loads(path.read_text())
            return found
    return {}


def collect(folder: Path) -> tuple[dict[str, list[Result]], list[str]]:
    """Return the finished runs below a folder by row, and one line for each unfinished run."""
    runs: dict[str, list[Result]] = {}
    failed = []
    for path in sorted(path for path in folder.glob("*_s*") if path.is_dir()):
        result = read(path)
        if result.get("status") == "completed":
            runs.setdefault(path.name.rsplit("_s", 1)[0], []).append(result)
        elif result:
            error = str(result.get("error", "unfinished")).split("\n")[0]
            failed.append(f"{path.name}: {error}")
    return runs, failed


def collect_in(file: Path, folder: Path) -> tuple[dict[str, list[Result]], list[str]]:
    """Add the finished runs below a folder to one file, for a page with many runs.

    Args:
        file: JSON, row -> its results; created if missing. A run replaces that of its row and seed.
        folder: parent of the run folders; may be missing.

    Returns:
        All runs of the file, and one line for each unfinished run of the folder.
    """
    kept = _read_runs(file)
    runs, failed = collect(folder)
    for row, results in runs.items():
        by_seed = {result["seed"]: result for result in [*kept.get(row, []), *results]}
        kept[row] = [{k: r[k] for k in KEPT_IN_ONE if k in r} for _, r in sorted(by_seed.items())]
    kept = dict(sorted(kept.items()))  # rows of the same mean always have the same order
    if runs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept, indent=1) + "\n")
    return kept, failed


def _read_runs(file: Path) -> dict[str, list[Result]]:
    """Read the runs of a file by row; none if there is no file.

    Raises:
        SystemExit: it holds something else.
    """
    if not file.exists():
        return {}
    try:
        kept: dict[str, list[Result]] = json.loads(file.read_text())
        if all(isinstance(run["seed"], int) for runs in kept.values() for run in runs):
            return kept
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise SystemExit(f"{file}: is no file of runs, which --keep writes; choose another one")


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], failed: Sequence[str]) -> str:
    """Format a table, whose first column is text and whose others are numbers, and the failures."""
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*table, *(f"\nfailed: {line}" for line in failed)])


def ranked(runs: dict[str, list[Result]]) -> list[str]:
    """Return the rows in descending order of mean test accuracy."""
    return sorted(runs, key=lambda row: -statistics.mean(scores(runs[row]).values()))


def scores(results: Sequence[Result]) -> dict[int, float]:
    """Return test figures (accuracy, or mAP of detectors) in percent by seed.

    They are float32: without rounding, equal ones could differ by -0.00 after subtraction.
    """
    return {r["seed"]: round(100 * r[task_figure(r).test], 4) for r in results}


def against(runs: dict[str, list[Result]], row: str, baseline: str) -> str:
    """Format the difference from another row over common seeds: mean ± standard deviation."""
    ours, theirs = scores(runs[row]), scores(runs.get(baseline, []))
    paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return spread(paired, "+.2f") if paired and row != baseline else "–"


def interval(runs: dict[str, list[Result]], row: str, baseline: str) -> str:
    """Format the difference from another row over common seeds: mean and 95 % t interval."""
    ours, theirs = scores(runs[row]), scores(runs.get(baseline, []))
    paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not paired or row == baseline:
        return "–"
    ends = t_interval(paired)
    between = "" if ends is None else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    mean = round(statistics.mean(paired), 2) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{mean:+.2f}{between}"


def keep(folder: Path, target: Path, files: Sequence[str] = ()) -> None:
    """Copy the figures of the finished runs below a folder, for the tables of a committed page.

    Args:
        folder: parent of the run folders.
        target: parent of the copies.
        files: further files of a run that are copied where they exist.
    """
    for path in sorted(path for path in folder.glob("*_s*") if path.is_dir()):
        result = read(path)
        if result.get("status") == "completed":
            kept = {key: result[key] for key in KEPT if key in result}
            (target / path.name).mkdir(parents=True, exist_ok=True)
            write_json(RunFolder(target / path.name).result, kept)
            for file in filter(Path.exists, (path / name for name in files)):
                shutil.copyfile(file, target / path.name / file.name)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Format mean ± sample standard deviation; the mean alone for a single value."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    mean = round(statistics.mean(values), 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{mean:{form}}{deviation}"


def grouped(number: float) -> str:
    """Format a whole number with spaces between thousands: `77 754`."""
    return f"{number:,.0f}".replace(",", " ")
