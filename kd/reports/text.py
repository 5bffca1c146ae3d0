"""A leaderboard as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from kd.reports.about import DEFINITIONS, About, Drawing, missing, summary, title, versions
from kd.reports.columns import Column, columns, costs, verdict
from kd.reports.leaderboard import Group, Leaderboard
from kd.reports.rows import Row


def markdown(board: Leaderboard, about: About, drawings: Sequence[Drawing]) -> str:
    """The whole report as Markdown."""
    parts = [f"# {_safe(title(about))}", _pairs(summary(board))]
    before, behind = ([c for c in cs if not c.extra] for cs in (columns(board), costs()))
    for group in board.groups:
        parts += [f"## {_safe(group.title)}", _table(group, before, behind)]
    parts += [_picture(drawing) for drawing in drawings]
    unfinished = [(f"{item.state}: {item.folder}", item.why) for item in board.unfinished]
    if unfinished or missing(board):
        parts += ["## Without a number", _pairs([*missing(board), *unfinished])]
    parts += ["## How to read it", _pairs(DEFINITIONS)]
    made = [("command", about.command), ("written", about.made), *versions(board)]
    return "\n\n".join([*parts, "## Made with", _pairs(made)]) + "\n"


def _table(group: Group, before: Sequence[Column], behind: Sequence[Column]) -> str:
    headings = ["", *(c.heading for c in before), "verdict", *(c.heading for c in behind)]
    right = ["--:"] * len(before), ["--:"] * len(behind)
    lines = [headings, ["---", *right[0], "---", *right[1]]]
    for row in group.rows:
        said = [c.text(row) for c in before], [c.text(row) for c in behind]
        lines.append([_safe(row.label), *said[0], verdict(row, group), *said[1]])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _picture(drawing: Drawing) -> str:
    path = f"figures/{drawing.name}"
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{path}-dark.png">'
    image = f'<img src="{path}.png" width="560" alt="{_safe(drawing.title)}">'
    return f"### {_safe(drawing.title)}\n\n<picture>{dark}{image}</picture>\n\n{drawing.caption}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_safe(word)}** {_safe(text)}" for word, text in pairs)


def _safe(text: str) -> str:
    """Text that ends no cell and begins no tag."""
    one_line = " ".join(text.split())
    return one_line.replace("|", "\\|").replace("<", "&lt;").replace('"', "&quot;")


def csv_text(board: Leaderboard) -> str:
    """One line a row; accuracies and differences as shares, not rounded."""
    file = io.StringIO()
    lines = [_record(row, group) for group in board.groups for row in group.rows]
    if lines:
        writer = csv.DictWriter(file, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return file.getvalue()


def _record(row: Row, group: Group) -> dict[str, object]:
    names = {role: row.settings[role] for role in ("data", "student", "method", "teacher", "mode")}
    figures = ("test/acc", "val/acc", "test/acc_last", "teacher/test/acc", "student/params")
    costs = ("images_per_second", "fit_seconds", "teacher_forwards")
    paired, interval = row.against, row.interval() or (None, None)
    ours = {
        "n": len(row.runs),
        "seeds": " ".join(map(str, sorted(row.runs))),
        **{key: row.mean(key) for key in (*figures, *costs)},
        "test/acc sd": row.deviation("test/acc"),
        "test/acc low": interval[0],
        "test/acc high": interval[1],
        "gap_recovered": row.gap,
    }
    low, high = (paired and paired.interval) or (None, None)
    theirs = {
        "baseline": group.baseline.label,
        "common_seeds": paired.seeds if paired else None,
        "difference": paired.mean if paired else None,
        "difference low": low,
        "difference high": high,
        "p": paired.p if paired else None,
        "p_holm": paired.p_holm if paired else None,
        "verdict": verdict(row, group),
    }
    return {"group": group.title, "row": row.title, **names, **ours, **theirs} | {
        "configuration": row.configuration
    }
