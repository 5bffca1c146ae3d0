"""Tables that a run prints: the matched taps before training, the figures after it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from kd.io.task_figures import task_figure

if TYPE_CHECKING:
    from kd.distillers.base import Distiller
    from kd.distillers.pairing import Pairing


def print_taps(
    student: str, teacher: str, distiller: "Distiller", pairings: "Mapping[str, Pairing]"
) -> None:
    """Print the taps that each objective compares, with their shapes without the batch.

    Args:
        student: the student's name.
        teacher: the teacher's name.
        distiller: holds the objectives.
        pairings: outputs for an example batch, by the pairing's name.
    """
    from kd.distillers.pairing import term_name

    table = Table(title="matched taps, shapes without the batch")
    for column in ("objective", f"student {student}", f"teacher {teacher}"):
        table.add_column(column)
    for pairing, (ours, theirs, *_) in pairings.items():
        if theirs is None:
            continue
        for name, term in distiller.terms_of(pairing).items():
            # A term may read more taps of one net than of the other; only pairs are shown.
            for tap, other in zip(term.student_taps, term.teacher_taps, strict=False):
                shapes = (list(ours.taps[tap].shape[1:]), list(theirs.taps[other].shape[1:]))
                cells = f"{tap} {shapes[0]}", f"{other} {shapes[1]}"
                table.add_row(term_name(pairing, name), *cells)
    if table.row_count:
        Console().print(table)


def print_summary(result: Mapping[str, Any]) -> None:
    """Print the figures of teacher, student and jointly trained nets.

    Args:
        result: what the run's result.json holds.
    """
    words = (f"{result['method']} on {result['data']}", f"mode {result['mode']}")
    table = Table(title=f"{', '.join(words)}, seed {result['seed']}")
    figure = task_figure(result)
    for column in ("", "net", f"test {figure.words}", "parameters", "seconds"):
        table.add_column(column, justify="left" if column in ("", "net") else "right")
    theirs = result[f"teacher/{figure.test}"]
    if theirs is not None:
        table.add_row(*_row(result, "teacher", theirs, "teacher/seconds"))
    table.add_row(*_row(result, "student", result[figure.test], "fit_seconds"))
    for role in (key.removesuffix("/net") for key in result if key.endswith("/net")):
        table.add_row(*_row(result, role, result[f"{role}/{figure.test}"]))
    console = Console()
    console.print(table)
    notes = [f"validation {figure.words} {result[figure.val]:.4f} at epoch {result['best_epoch']}"]
    if result["compression"] is not None:
        notes.append(_compression(result["compression"]))
    if result.get("test/agreement") is not None:
        notes.append(f"agreement with the teacher {result['test/agreement']:.4f}")
    console.print("; ".join(notes), highlight=False)


def _compression(ratio: float) -> str:
    """The teacher's number of parameters over the student's, in words."""
    if ratio == 1:
        return "as many parameters as the teacher"
    times, word = (ratio, "fewer") if ratio > 1 else (1 / ratio, "more")
    return f"{times:.1f} times {word} parameters than the teacher"


def _row(result: Mapping[str, Any], role: str, accuracy: float, seconds: str = "") -> list[str]:
    return [
        role,
        str(result.get(role, result.get(f"{role}/net"))),
        f"{accuracy:.4f}",
        f"{result[f'{role}/params']:,}".replace(",", " "),
        f"{result[seconds]:.1f}" if seconds else "",
    ]
