"""`python -m kd.cache`: list or clear the caches of teacher outputs."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kd.config.command import command

if TYPE_CHECKING:
    from rich.table import Table


@command("cache")
def main(cfg: DictConfig) -> None:
    """Clear the caches that `clear` names, then print a line for each that remains."""
    from rich.console import Console

    root = Path(cfg.paths.cache)
    if cfg["clear"] is not None:  # cfg.clear is the mapping's method
        _clear(root, cfg["clear"])
    Console().print(_table(root))


def _clear(root: Path, name: str) -> None:
    from kd.errors import UserError, nearest
    from kd.teachers.output_cache import entries

    found = entries(root)
    chosen = [entry for entry in found if name in ("all", entry.name)]
    if not chosen and name != "all":
        names = [entry.name for entry in found]
        raise UserError(f"clear={name}: no such cache in {root}; {nearest(name, names)}")
    for entry in chosen:
        entry.clear()


def _table(root: Path) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from kd.io.printable import printable
    from kd.teachers.output_cache import entries

    table = Table(title=f"teacher outputs cached in {root}")
    for column in ("name", "MB", "teacher and data", "views", "tensors"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for entry in entries(root):
        about = entry.about
        source = f"{about.get('teacher', '?')} on {about.get('data', '?')}"
        sizes = about.get("tensors")
        tensors = (
            ", ".join(f"{k}: {v}" for k, v in sizes.items()) if isinstance(sizes, dict) else ""
        )
        size, view = f"{entry.size / 1e6:.1f}", about.get("view", "?")
        cells = (printable(text) for text in (entry.name, size, source, view, tensors))
        table.add_row(*map(escape, cells))
    return table


if __name__ == "__main__":
    main()
