"""`python -m kd.compress`: prune, quantise and distil a trained student at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.config.arguments import typed_command
from kd.config.command import command


@command("compress", method="taught_by", search="walk")
def main(cfg: DictConfig) -> None:
    """Compress at one ratio or at several, print the table and write it beside the students."""
    from kd.deploy.compression.compress import compress_all
    from kd.deploy.compression.pareto import best, write_sheet
    from kd.deploy.compression.plan import Plan
    from kd.errors import UserError

    plan = Plan.from_settings(cfg, typed_command("compress"))
    students = compress_all(plan)
    sheet = write_sheet(students, plan.max_drop, plan.output, plan.command)
    _print(students, plan.max_drop, sheet)
    if len(best(students[1:])) == 0 and not plan.force:
        least = min(each.drop for each in students[1:])
        raise UserError(
            f"max_drop={plan.max_drop:g} is exceeded: {least:.2f} points are lost on validation, "
            "so no model file is written; prune less, train longer (max_epochs=…), or write it "
            "with force=true, which trains nothing again"
        )


def _print(students: Sequence[Any], max_drop: float, sheet: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kd.deploy.compression.pareto import table

    headings, *rows = table(students, max_drop)
    console, shown = Console(), Table(box=None, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for cells in rows:
        shown.add_row(*map(escape, cells))
    console.print(shown)
    files = [path for each in students[1:] for path in (each.file or each.folder,)]
    for path in (*files, *sheet):
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
