"""A report's folder, written whole or not at all."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kd.errors import UserError
from kd.reports.about import About, Drawing
from kd.reports.leaderboard import Leaderboard
from kd.reports.page import page
from kd.reports.text import csv_text, markdown

log = logging.getLogger(__name__)

PAGE = "report.html"


def write_report(board: Leaderboard, about: About, output: Path, figures: bool = True) -> None:
    """Write report.md, report.csv, report.html and the figures into `output`, replacing a report.

    Raises:
        UserError: `output` holds something else.
    """
    _refuse_to_replace(output)
    with _whole(output) as folder:
        drawings = _drawings(board, folder / "figures") if figures else []
        (folder / "report.md").write_text(markdown(board, about, drawings))
        (folder / "report.csv").write_text(csv_text(board))
        (folder / PAGE).write_text(page(board, about, drawings))


def _refuse_to_replace(output: Path) -> None:
    used = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if used and not (output / PAGE).is_file():
        raise UserError(f"output={output}: something else is there; name a folder of its own")


def _drawings(board: Leaderboard, folder: Path) -> list[Drawing]:
    if find_spec("matplotlib") is None:
        log.warning("no figures: matplotlib is not installed; pip install -e '.[plots]'")
        return []
    from kd.reports.figures.select import draw_figures

    folder.mkdir()
    drawings, left_out = draw_figures(board, folder)
    if left_out:
        log.warning("%d figures are left out, after the first of each kind", left_out)
    return drawings


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that takes its place at the end, or is gone after an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        yield new
        if output.exists():
            output.rename(old)
        new.rename(output)
