"""`python -m kd.cache`: list what is kept of teachers' answers, or clear it."""

from pathlib import Path

from omegaconf import DictConfig

from kd.config.command import command


@command("cache")
def main(cfg: DictConfig) -> None:
    """Print a line for every cache; with `clear`, delete one or all first."""
    from rich.console import Console
    from rich.table import Table

    from kd.errors import UserError, nearest
    from kd.teachers.output_cache import entries

    root, clear = Path(cfg.paths.cache), cfg["clear"]
    found = entries(root)
    chosen = [entry for entry in found if clear in ("all", entry.name)]
    if clear not in (None, "all") and not chosen:
        names = [entry.name for entry in found]
        raise UserError(f"clear={clear}: {root} has no such cache; {nearest(clear, names)}")
    for entry in chosen:
        entry.clear()

    table = Table(title=f"answers kept in {root}")
    for column in ("name", "MB", "of", "view", "tensors"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for entry in entries(root):
        about = entry.about
        of = f"{about.get('teacher', '?')} on {about.get('data', '?')}"
        tensors = ", ".join(f"{k}: {v}" for k, v in about.get("tensors", {}).items())
        table.add_row(entry.name, f"{entry.size / 1e6:.1f}", of, about.get("view", "?"), tensors)
    Console().print(table)


if __name__ == "__main__":
    main()
