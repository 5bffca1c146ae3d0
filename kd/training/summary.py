"""The table printed at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


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
