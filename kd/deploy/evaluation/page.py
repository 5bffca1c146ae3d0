"""The sheet of an evaluation as one self-contained HTML page, and as Markdown."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from kd.deploy.evaluation.sheet import Row, Sheet, per_class, sections
from kd.io.printable import printable
from kd.io.regular_files import real_path
from kd.reports.drawing import Drawing
from kd.reports.html import render
from kd.reports.markdown import escape_markdown


def title(sheet: Sheet) -> str:
    """Return the title: the name of the run's folder."""
    return f"Evaluation: {real_path(sheet.run).name}"


def page(sheet: Sheet, drawings: Sequence[Drawing]) -> str:
    """Return the sheet as HTML that loads no other file and needs no network."""
    return render(
        "evaluation.html",
        drawings,
        Path(__file__).resolve().parent,
        title=title(sheet),
        sheet=sheet,
        sections=_tables(sheet),
        definitions=_definitions(sheet),
    )


def markdown(sheet: Sheet, drawings: Sequence[Drawing]) -> str:
    """Return the sheet as Markdown; figures are linked, not embedded."""
    parts = [f"# {escape_markdown(title(sheet))}", f"Data: {escape_markdown(sheet.data)}."]
    parts += ["\n".join(f"- {escape_markdown(note)}" for note in sheet.notes)] * bool(sheet.notes)
    for heading, rows in _tables(sheet).items():
        parts += [f"## {heading}", _table(sheet, rows)]
    parts += [_picture(drawing) for drawing in drawings]
    parts += ["## Definitions", _pairs(_definitions(sheet))]
    return "\n\n".join([*parts, "## Reproduction", _pairs(sheet.about.items())]) + "\n"


def _tables(sheet: Sheet) -> dict[str, list[Row]]:
    by_class = per_class(sheet)
    return {**sections(sheet), **({"Accuracy by class": by_class} if by_class else {})}


def _definitions(sheet: Sheet) -> list[tuple[str, str]]:
    """Return headings and definitions; rows of the same definition share one."""
    headings: dict[str, list[str]] = {}
    for rows in sections(sheet).values():
        for row in rows:
            headings.setdefault(row.definition, []).append(row.heading)
    return [(_shared(names), definition) for definition, names in headings.items()]


def _shared(names: Sequence[str]) -> str:
    """Name the first and the last of several headings.

    Example:
        >>> _shared(["noise, strength 1", "noise, strength 2", "blur, strength 1"])
        'noise, strength 1 … blur, strength 1'
    """
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def _table(sheet: Sheet, rows: Sequence[Row]) -> str:
    heads = ["", *(f"{net.role}: {net.name}" for net in sheet.nets)]
    lines = [list(map(escape_markdown, heads)), ["---", *["--:"] * len(sheet.nets)]]
    lines += [[escape_markdown(row.heading), *row.cells] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _picture(drawing: Drawing) -> str:
    alt = escape(printable(drawing.title))
    image = f'<img src="figures/{drawing.name}.png" width="560" alt="{alt}">'
    dark = f'srcset="figures/{drawing.name}-dark.png"'
    source = f'<source media="(prefers-color-scheme: dark)" {dark}>'
    heading, caption = escape_markdown(drawing.title), escape_markdown(drawing.caption)
    return f"### {heading}\n\n<picture>{source}{image}</picture>\n\n{caption}"


def _pairs(pairs: Any) -> str:
    return "\n".join(f"- **{escape_markdown(a)}**: {escape_markdown(b)}" for a, b in pairs)
