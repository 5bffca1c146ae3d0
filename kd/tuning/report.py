"""The result of a search: a table, search.json, and the command line of the best trial."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from kd.io.checksums import write_json
from kd.io.task_figures import TaskFigure
from kd.tuning.trial_overrides import merge_overrides

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from kd.tuning.study import Search

_STATUSES = ("completed", "pruned", "failed", "running")
_SHOWN = 5  # of the completed trials


def report(search: "Search", base: list[str], folder: Path, figure: TaskFigure) -> float:
    """Write search.json, print the best trials and the best one's command line.

    Args:
        search: a finished search.
        base: overrides of all trials.
        folder: receives search.json.
        figure: of the validation set, by which trials are judged.

    Returns:
        The best figure.
    """
    best = search.best()
    rows = [summary(trial, figure.val) for trial in search.counted()]
    command = command_line(base, best.user_attrs["overrides"])
    counts = {status: sum(row["status"] == status for row in rows) for status in _STATUSES}
    content = {"best": summary(best, figure.val), "command": command, **counts, "trials": rows}
    write_json(folder / "search.json", content)
    _print(rows, counts, command, figure)
    return float(best.value or 0.0)


def _print(
    rows: list[dict[str, Any]], counts: dict[str, int], command: str, figure: TaskFigure
) -> None:
    from rich.console import Console
    from rich.table import Table

    title = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    heading = f"validation {figure.words}"
    table = Table("trial", heading, "settings", title=f"{len(rows)} trials: {title}")
    done = [row for row in rows if row["status"] == "completed"]
    done.sort(key=lambda row: (-row[figure.val], row["number"]))
    for row in [*done[:_SHOWN], *(row for row in done[_SHOWN:] if row["defaults"])]:
        settings = " ".join(row["overrides"]) or "default settings"
        table.add_row(str(row["number"]), f"{row[figure.val]:.4f}", settings)
    console = Console()
    console.print(table)
    console.print(
        "The best of many validation figures is an optimistic estimate, and no trial has used the "
        "test set. Train the best settings and test them with:"
    )
    console.print(command, soft_wrap=True, highlight=False, markup=False)


def summary(trial: "FrozenTrial", key: str) -> dict[str, Any]:
    """Return a trial's entry in search.json; its figure has the name `key`."""
    known, state = trial.user_attrs, trial.state.name.lower()
    status = {"complete": "completed"}.get(state, "failed" if "error" in known else state)
    return {
        "number": trial.number,
        "status": status,
        "defaults": "defaults" in known,
        key: trial.value if status == "completed" else None,
        "epochs": max(trial.intermediate_values, default=0),
        "best_epoch": known.get("best_epoch"),
        "overrides": known.get("overrides"),
        "folder": known.get("folder"),
        "error": known.get("error"),
    }


def command_line(base: list[str], overrides: list[str]) -> str:
    """Return the `kd.train` command that repeats a trial and tests its student."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]
    words = ["python", "-m", "kd.train", *folders, *merge_overrides(base, overrides)]
    return shlex.join(words)
