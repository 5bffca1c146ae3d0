"""Comparison of compressed students: which are not beaten in everything, as Markdown and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.deploy.compression.compress import Measured
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.checksums import with_checksum

JSON_FILE, MARKDOWN_FILE = "compression.json", "compression.md"
HEADINGS = (
    *("student", "val %", "drop", "test %", "parameters", "bytes", "gzip", "MACs", "ms", "verdict"),
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


def rows(students: Sequence[Measured], max_drop: float) -> list[tuple[str, ...]]:
    """Return the cells of the table, a row for each student."""
    chosen = best(students)
    return [
        (
            each.label,
            f"{100 * each.val_acc:.2f}",
            f"{each.drop:+.2f}",
            "–" if each.test_acc is None else f"{100 * each.test_acc:.2f}",
            *(str(n) for n in (each.parameters, each.file_bytes, each.gzip_bytes, each.macs)),
            f"{each.latency_ms:.2f}",
            _verdict(each, chosen, max_drop),
        )
        for each in students
    ]


def _verdict(student: Measured, chosen: Sequence[Measured], max_drop: float) -> str:
    if not student.within:
        return f"exceeds max_drop={max_drop:g}"
    return "Pareto-optimal" if student in chosen else "within, but beaten"


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
    write_atomic(folder / JSON_FILE, text.encode())
    page = markdown(students, max_drop, command)
    write_atomic(folder / MARKDOWN_FILE, page.encode(errors="backslashreplace"))
    return [folder / JSON_FILE, folder / MARKDOWN_FILE]


def markdown(students: Sequence[Measured], max_drop: float, command: str) -> str:
    """Return the table with what its columns mean."""
    lines = [HEADINGS, ("---", *("---:" for _ in HEADINGS[1:])), *rows(students, max_drop)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        f"# Compression\n\n`{command}`\n\n{table}\n\n"
        "val, drop: accuracy on validation and points lost against the uncompressed student there, "
        "by which students are kept; with int8, of the net with rounded weights and inputs. test: "
        "of student.safetensors. bytes, gzip: of student.safetensors, in fp32. ms: median of a "
        "batch of one image in fp32 on this machine's CPU.\n"
    )
