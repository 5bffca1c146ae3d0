"""The table, the JSON file and the command line that close a search."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from kd.tuning.study import Search
from kd.tuning.trial_configs import merged


def report(search: "Search", base: list[str], folder: Path) -> float:
    """Print the best trials and how to repeat the best; write `search.json`."""
    from rich.console import Console
    from rich.table import Table

    from kd.io.checksums import write_json

    best, trials = search.best(), search.claimed()
    words = command_line(base, best.user_attrs["overrides"])
    rows = [summary(trial) for trial in trials]
    counts = {state: sum(row["status"] == state for row in rows) for state in _STATES}
    content = {"best": summary(best), "command": words, **counts, "trials": rows}
    write_json(folder / "search.json", content)

    title = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    table = Table("trial", "validation accuracy", "settings", title=f"{len(rows)} trials: {title}")
    done = [row for row in rows if row["status"] == "completed"]
    done.sort(key=lambda row: (-row["val/acc"], row["number"]))
    for row in [*done[:5], *(row for row in done[5:] if row["defaults"])]:
        said = " ".join(row["overrides"]) or "the defaults"
        table.add_row(str(row["number"]), f"{row['val/acc']:.4f}", said)
    console = Console()
    console.print(table)
    console.print(
        "The best of many is best partly by luck; the test set has not been used. Run it:"
    )
    console.print(words, soft_wrap=True, highlight=False, markup=False)
    return float(best.value or 0.0)


_STATES = ("completed", "pruned", "failed", "running")


def summary(trial: "FrozenTrial") -> dict[str, Any]:
    """What search.json says of a trial."""
    known, state = trial.user_attrs, trial.state.name.lower()
    status = {"complete": "completed"}.get(state, "failed" if "error" in known else state)
    return {
        "number": trial.number,
        "status": status,
        "defaults": "defaults" in known,
        "val/acc": trial.value if status == "completed" else None,
        "epochs": max(trial.intermediate_values, default=0),
        "best_epoch": known.get("best_epoch"),
        "overrides": known.get("overrides"),
        "folder": known.get("folder"),
        "error": known.get("error"),
    }


def command_line(base: list[str], overrides: list[str]) -> str:
    """What repeats a trial as a run of its own, test set and all."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]
    return shlex.join(["python", "-m", "kd.train", *folders, *merged(base, overrides)])
