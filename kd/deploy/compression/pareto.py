"""Comparison of compressed students: which are not beaten in everything, as Markdown and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.deploy.compression.measured import Measured
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.checksums import with_checksum
from kd.reports.markdown import escape_markdown

SHEET = ("compression.json", "compression.md")
_SHORT = ("student", "val %", "drop", "test %", "kB", "MMACs", "ms", "verdict")
_LONG = (
    *("student", "val %", "drop", "test %", "parameters", "zeros %", "bytes", "gzip", "MACs"),
    *("ms, batch 1", "ms, batch 64", "verdict", "file"),
)


def best(students: Sequence[Measured]) -> list[Measured]:
    """Return the students within the bound that no other one within it beats or equals in all.

    Compared are accuracy on validation, bytes after gzip, MACs and latency.
    """
    kept = [each for each in students if each.within]
    return [each for each in kept if not any(_beats(other, each) for other in kept)]


def _beats(other: Measured, own: Measured) -> bool:
    a, b = _figures(other), _figures(own)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _figures(student: Measured) -> tuple[float, ...]:
    return -student.val_acc, student.gzip_bytes, student.macs, student.latency_ms


def table(students: Sequence[Measured], max_drop: float) -> list[tuple[str, ...]]:
    """Return the cells of a table for the terminal, headings first."""
    return [
        _SHORT,
        *(
            (
                *_accuracies(each),
                f"{each.file_bytes / 1000:.0f}",
                f"{each.macs / 1e6:.4g}",
                f"{each.latency_ms:.2f}",
                verdict,
            )
            for each, verdict in _judged(students, max_drop)
        ),
    ]


def _accuracies(each: Measured) -> tuple[str, ...]:
    test = "–" if each.test_acc is None else f"{100 * each.test_acc:.2f}"
    return each.label, f"{100 * each.val_acc:.2f}", f"{each.drop:+.2f}", test


def _judged(students: Sequence[Measured], max_drop: float) -> list[tuple[Measured, str]]:
    chosen = best(students)
    return [(each, _verdict(each, chosen, max_drop)) for each in students]


def _verdict(student: Measured, chosen: Sequence[Measured], max_drop: float) -> str:
    if not student.within:
        return f"exceeds {max_drop:g}"
    return "Pareto" if student in chosen else "beaten"


def write_sheet(
    students: Sequence[Measured], max_drop: float, folder: Path, command: str
) -> list[Path]:
    """Write the table as JSON and as Markdown, beside the files that it names.

    Raises:
        UserError: the folder is a file.
        OSError: the files cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder} is a file; choose a folder")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = best(students)
    content: dict[str, Any] = {
        "command": command,
        "max_drop": max_drop,
        "students": [each.record() | {"pareto": each in chosen} for each in students],
    }
    text = json.dumps(with_checksum(content), indent=2, ensure_ascii=False)
    write_atomic(folder / SHEET[0], text.encode())
    page = markdown(students, max_drop, command)
    write_atomic(folder / SHEET[1], page.encode(errors="backslashreplace"))
    return [folder / name for name in SHEET]


def markdown(students: Sequence[Measured], max_drop: float, command: str) -> str:
    """Return the table with what its columns mean."""
    rows = [
        (
            *_accuracies(each),
            str(each.parameters),
            f"{100 * each.sparsity:.1f}",
            *(str(n) for n in (each.file_bytes, each.gzip_bytes, each.macs)),
            *(f"{ms:.3g}" for ms in (each.latency_ms, each.latency64_ms)),
            verdict,
            escape_markdown(each.file or "–"),
        )
        for each, verdict in _judged(students, max_drop)
    ]
    lines = [_LONG, ("---", *("---:" for _ in _LONG[1:])), *rows]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    busy = any(each.noisy for each in students)
    return (
        f"# Compression\n\n{escape_markdown(command)}\n\n{text}\n\n"
        f"max_drop={max_drop:g} points on validation, by which files are judged; the test set "
        "selects nothing. All figures but parameters, zeros and MACs are of the model file in "
        "onnxruntime; of student.safetensors in torch where no ONNX file can be written. zeros: of "
        "the weights of convolutions and linear layers. ms: median time of a batch on this "
        "machine's CPU."
        f"{' The machine was busy: its times are not reliable.' * busy}\n"
    )
