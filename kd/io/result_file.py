"""What a run leaves: one flat result.json, and the table that closes it."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from kd.io.atomic import write_whole
from kd.io.checksums import is_intact, seal

RESULT = "result.json"
_LIBRARIES = ("kd", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "numpy")


def write_result(folder: Path, result: Mapping[str, Any], name: str = RESULT) -> Path:
    """Write `folder/result.json`, or another `name`, whole or not at all."""
    path = folder / name
    write_whole(path, (json.dumps(seal(result), indent=2) + "\n").encode())
    return path


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `folder/result.json` holds; None where there is none, or none that can be believed."""
    try:
        result = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and is_intact(result) else None


def count_parameters(net: nn.Module) -> int:
    """How many numbers the net is trained with, all parameters counted."""
    return sum(parameter.numel() for parameter in net.parameters())


def library_versions() -> dict[str, str]:
    """Python and the libraries a number depends on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that was not installed
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the checkout this package lies in; None outside one."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def print_summary(result: Mapping[str, Any]) -> None:
    """Print the closing table: teacher, student and who learned beside it."""
    table = Table(title=f"{result['method']} on {result['data']}, seed {result['seed']}")
    for column in ("", "net", "test accuracy", "parameters", "seconds"):
        table.add_column(column, justify="left" if column in ("", "net") else "right")
    if result["teacher/test/acc"] is not None:
        table.add_row(*_row(result, "teacher", result["teacher/test/acc"], "teacher/seconds"))
    table.add_row(*_row(result, "student", result["test/acc"], "fit_seconds"))
    for role in (key.removesuffix("/net") for key in result if key.endswith("/net")):
        table.add_row(*_row(result, role, result[f"{role}/test/acc"]))
    console = Console()
    console.print(table)
    notes = [f"validation accuracy {result['val/acc']:.4f} at epoch {result['best_epoch']}"]
    if result["compression"] is not None:
        notes.append(f"{result['compression']:.1f} times fewer parameters than the teacher")
        notes.append(f"agreement with the teacher {result['test/agreement']:.4f}")
    console.print("; ".join(notes), highlight=False)


def _row(result: Mapping[str, Any], role: str, accuracy: float, seconds: str = "") -> list[str]:
    return [
        role,
        str(result.get(role, result.get(f"{role}/net"))),
        f"{accuracy:.4f}",
        f"{result[f'{role}/params']:,}".replace(",", " "),
        f"{result[seconds]:.1f}" if seconds else "",
    ]
