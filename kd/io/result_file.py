"""What a run leaves: one flat result.json, and the table that closes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.io.atomic import write_atomic
from kd.io.checksums import is_intact, with_checksum
from kd.io.run_folder import RESULT


def write_result(folder: Path, result: Mapping[str, Any], name: str = RESULT) -> Path:
    """Write `folder/result.json`, or another `name`, whole or not at all."""
    path = folder / name
    write_atomic(path, (json.dumps(with_checksum(result), indent=2) + "\n").encode())
    return path


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `folder/result.json` holds; None where there is none, or none that can be believed."""
    try:
        result = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and is_intact(result) else None
