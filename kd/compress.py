"""`python -m kd.compress`: prune, quantise and distil a trained student at once."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.config.command import command


@command("compress", method="taught_by", search="walk")
def main(cfg: DictConfig) -> None:
    """Compress at one ratio or at several, print the table and write it beside the students."""
    from kd.deploy.compression.pareto import best, write_sheet
    from kd.deploy.compression.search import Plan, compress_all
    from kd.errors import UserError

    plan = Plan.from_settings(cfg)
    students = compress_all(plan)
    files = write_sheet(students, plan.max_drop, plan.output, _call())
    _print(students, plan.max_drop, files)
    if len(best(students[1:])) == 0 and not cfg.force:
        least = min(each.drop for each in students[1:])
        raise UserError(
            f"max_drop={plan.max_drop:g} is exceeded: {least:.2f} points are lost on validation; "
            "prune less, train longer (max_epochs=…), or accept it with force=true"
        )


def _call() -> str:
    """Return the command as it was typed; in `sys.argv` its short forms are expanded."""
    typed = sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]
    return f"python -m kd.compress {shlex.join(typed)}"


def _print(students: Sequence[Any], max_drop: float, files: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kd.deploy.compression.pareto import HEADINGS, rows

    console, table = Console(), Table(title="compression, selected on validation")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    for cells in rows(students, max_drop):
        table.add_row(*map(escape, cells))
    console.print(table)
    for path in (*(each.folder for each in students[1:]), *files):
        console.print(f"written: {path}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
