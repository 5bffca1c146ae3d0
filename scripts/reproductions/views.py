"""Students that see 1, 4, 16, 64 or all 162 views of each image, drawn by crop and flip.

Each run has its own cache of teacher outputs, so that the seconds and teacher forwards of the rows
are comparable.
"""

import shutil
import statistics
from pathlib import Path

import comparison as compare
from comparison import Result
from matplotlib.figure import Figure

from kd.plots.style import Theme
from reproductions.experiment import Experiment, Runs
from reproductions.figures import curves

VIEWS = {"1": 1, "4": 4, "16": 16, "64": 64, "all": "null"}
# 3 000 images and bf16: two hours on one core
BF16 = "trainer.precision=bf16-mixed"
SHARED = [
    *("data=cifar10", "teacher=resnet20", "student=resnet8", "data.train_samples=3000"),
    *("trainer.max_epochs=30", "teacher.training.trainer.max_epochs=30"),
    *(BF16, f"teacher.training.{BF16}", "paths.cache={folder}/cache"),
]
ROWS = {
    **{f"kd_{name}": [*SHARED, f"data.views={count}"] for name, count in VIEWS.items()},
    "ce_all": [*SHARED, "method=ce", "data.views=null"],
}
COLUMNS = (
    *("method", "views", "seeds", "test accuracy", "against `kd` with all, same seeds"),
    *("teacher forwards", "seconds"),
)


def clear(row: str, folder: Path) -> None:
    """Delete a run's own cache of teacher outputs."""
    shutil.rmtree(folder / "cache", ignore_errors=True)


def tables(runs: Runs, folder: Path) -> str:
    """Format accuracy, teacher forwards and seconds by number of views."""
    lines = []
    for row, found in ((row, runs[row]) for row in ROWS if row in runs):
        method, count = row.split("_")
        seconds = [result["fit_seconds"] for result in found]
        scores = compare.spread([*compare.scores(found).values()])
        difference = compare.interval(runs, row, "kd_all")
        forwards = statistics.median(_forwards(result) for result in found)
        cells = [f"`{method}`", count, str(len(found)), scores, difference]
        lines.append([*cells, compare.grouped(forwards), f"{statistics.median(seconds):.0f}"])
    return compare.markdown(COLUMNS, lines, [])


def _forwards(result: Result) -> int:
    """Return how many images the teacher saw for training; all runs test it once as well."""
    return max((result.get("teacher_forwards") or 0) - int(result["test/images"]), 0)


def figure(runs: Runs, theme: Theme) -> Figure:
    """Draw the test accuracy by number of views."""
    rows = {name: runs.get(f"kd_{name}", []) for name in VIEWS}
    found = {name: [*compare.scores(results).values()] for name, results in rows.items() if results}
    return curves({"kd": found}, "views of an image", "test accuracy, %", theme)


EXPERIMENT = Experiment(ROWS, seeds=range(5), tables=tables, figure=figure, after=clear)
