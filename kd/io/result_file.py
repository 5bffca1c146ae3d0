"""Reading and writing of a run's result.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.io.checksums import read_json, write_json
from kd.io.run_folder import RunFolder


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write a run's result.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(RunFolder(folder).result, result)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read a run's result; None for a run without one, or with a damaged one."""
    return read_json(RunFolder(folder).result)
