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

    from kd.config.compose import plain
    from kd.errors import UserError
    from kd.reports.about import About
    from kd.reports.find import check_finished, find_runs
    from kd.reports.leaderboard import build_leaderboard
    from kd.reports.options import read_options
    from kd.reports.write import Forms, write_report

    asked = read_options(plain(cfg))
    found = find_runs(asked.folders)
    check_finished(found, asked.folders)
    board = build_leaderboard(found, asked.baseline, asked.samples, asked.seed, asked.detect)
    sources, now = list(map(str, asked.folders)), strftime("%Y-%m-%d %H:%M")
    about = About(typed_command("report"), sources, asked.samples, now)
    try:
        write_report(board, about, asked.output, Forms(**asked.forms))
    except OSError as error:  # the file that it names may be a temporary one
        reason = error.strerror or error
        raise UserError(
            f"output={asked.output}: the report cannot be written there: {reason}; choose another "
            "folder with output=FOLDER"
        ) from error
    _print(board, asked.output)


def _print(board: Any, output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kd.io.printable import printable
    from kd.reports.columns import result_columns
    from kd.reports.lines import lines
    from kd.reports.uncertainty_columns import uncertainty_columns

    console = Console()
    below = [column for column in uncertainty_columns(board) if column.in_terminal]
    for group in board.groups:
        shown = [column for column in result_columns(board, group) if column.in_terminal]
        table = Table(title=escape(printable(group.title)))
        # 80 columns have room for labels of 12 characters a line.
        table.add_column("row", overflow="fold", min_width=12)
        for column in shown:
            table.add_column(column.heading, justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
        for line in lines(group, shown, ()):
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
