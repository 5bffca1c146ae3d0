"""`python -m kd.report`: compare the runs of a sweep in a page, tables and figures."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.config.arguments import typed_command
from kd.config.command import command


@command("report", sweep="folder")
def main(cfg: DictConfig) -> None:
    """Read the runs, compare them, write the report and print its leaderboard."""
    from time import strftime

    from kd.errors import UserError
    from kd.reports.about import About
    from kd.reports.find import find_runs
    from kd.reports.leaderboard import build_leaderboard
    from kd.reports.write import Forms, write_report

    detect = _fraction(cfg.detect)
    folders = [Path(str(f)) for f in (cfg.folder, *cfg.folders) if f is not None]
    if not folders:
        raise UserError("no runs are given: add sweep=FOLDER, or folders=[FOLDER,FOLDER]")
    samples = cfg.bootstrap.samples
    if not isinstance(samples, int) or samples < 1:
        raise UserError(f"bootstrap.samples={samples}: must be a whole number ≥ 1")
    baseline = None if cfg.baseline is None else str(cfg.baseline)
    found = find_runs(folders)
    board = build_leaderboard(found, baseline, samples, cfg.bootstrap.seed, detect)
    output = Path(cfg.output) if cfg.output else folders[0] / "report"
    about = About(
        typed_command("report"), list(map(str, folders)), samples, strftime("%Y-%m-%d %H:%M")
    )
    write_report(board, about, output, Forms(cfg.figures, cfg.matrix, cfg.latex, cfg.checklist))
    _print(board, output)


def _fraction(points: Any) -> float | None:
    """Convert `detect` to a fraction."""
    from kd.errors import UserError

    if points is None:
        return None
    if not isinstance(points, int | float) or not 0 < points <= 100:
        raise UserError(f"detect={points}: must be a difference in points, above 0 and up to 100")
    return points / 100


def _print(board: Any, output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kd.io.printable import printable
    from kd.reports.columns import result_columns
    from kd.reports.lines import lines
    from kd.reports.uncertainty_columns import uncertainty_columns

    console = Console()
    shown = [column for column in result_columns(board) if column.in_terminal]
    below = [column for column in uncertainty_columns(board) if column.in_terminal]
    for group in board.groups:
        table = Table(title=escape(printable(group.title)))
        # 80 columns have room for labels of 12 characters a line.
        table.add_column("row", overflow="fold", min_width=12)
        for column in shown:
            table.add_column(column.heading, justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
        for line in lines(board, group, shown, ()):
            cells = [text for text, _ in line.results]
            table.add_row(escape(printable(line.label)), *cells, line.verdict)
        console.print(table)
        for row in group.rows if below else ():  # 80 columns have no room beside the verdict
            said = "; ".join(f"{column.heading}: {column.text(row)}" for column in below)
            console.print(f"{printable(row.label)}: {said}", markup=False, highlight=False)
    for item in board.excluded:
        said = printable(f"{item.state}: {item.folder}: {item.why}")
        console.print(said, markup=False, highlight=False)
    console.print(f"written: {output / 'report.html'}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
