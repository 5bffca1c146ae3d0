"""Origin of a run's numbers besides its settings: data, teacher, initial weights, resumption."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def experiment(result: Mapping[str, Any], folder: Path) -> str:
    """Return a key that is equal for the seeds of one experiment, given equal settings.

    Runs of earlier versions have no such record and are told apart by their settings alone. A run
    on data that cannot be recognised is an experiment of its own.

    Args:
        result: content of its result.json.
        folder: of the run.
    """
    if "recipe_hash" not in result:
        return ""
    found = result["recipe_hash"]
    return str(folder) if found is None else str(found)


def described(result: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return what distinguishes an experiment from another one of equal settings, for labels."""
    teacher = result.get("teacher/recipe_hash") or result.get("teacher/weights_hash")
    data = result.get("data/fingerprint")
    parts = {
        "data.fingerprint": f"unrecognised ({folder.name})" if data is None else data,
        "teacher.weights": teacher,
        "initial_weights": result.get("student/start_hash"),
        "resumed_with": result.get("changes") or None,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in parts.items()
        if value is not None
    }


def teachers(results: list[Mapping[str, Any]]) -> int:
    """Return how many different teachers the runs of a row have had."""
    return len({json.dumps(each.get("teacher/weights_hash")) for each in results})
