"""Writing of a report folder, atomically."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kd.errors import UserError
from kd.reports.about import About
from kd.reports.csv_file import csv_text
from kd.reports.drawing import Drawing
from kd.reports.leaderboard import Leaderboard
from kd.reports.markdown import markdown
from kd.reports.page import page

log = logging.getLogger(__name__)

PAGE = "report.html"


def write_report(board: Leaderboard, about: About, output: Path, figures: bool = True) -> None:
    """Write report.md, report.csv, report.html and the figures; replace an earlier report.

    Raises:
        UserError: `output` holds something other than a report.
    """
    _check_replaceable(output)
    with _atomic_folder(output) as folder:
        drawings = _draw(board, folder / "figures") if figures else []
        (folder / "report.md").write_text(markdown(board, about, drawings))
        (folder / "report.csv").write_text(csv_text(board))
        (folder / PAGE).write_text(page(board, about, drawings))


def _check_replaceable(output: Path) -> None:
    used = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if used and not (output / PAGE).is_file():
        raise UserError(f"output={output} exists and is not a report; choose an empty folder")


def _draw(board: Leaderboard, folder: Path) -> list[Drawing]:
    if find_spec("matplotlib") is None:
        log.warning("no figures: matplotlib is not installed; pip install -e '.[plots]'")
        return []
    from kd.reports.figures.select import draw_figures

    folder.mkdir()
    drawings, left_out = draw_figures(board, folder)
    if left_out:
        log.warning("%d figures left out: only the first of each kind are drawn", left_out)
    return drawings


@contextmanager
def _atomic_folder(output: Path) -> Iterator[Path]:
    """Provide a new folder that takes the place of `output` at the end, or is deleted on errors."""
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside `output`, so that the renames stay on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        yield new
        # Two renames: POSIX replaces only an empty folder. `old` is deleted with `scratch`.
        if output.exists():
            output.rename(old)
        new.rename(output)
