"""Writing of a report's files, which replace those of an earlier report and no others."""

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.own_files import is_link
from kd.io.regular_files import open_regular
from kd.reports.about import About
from kd.reports.checklist import checklist
from kd.reports.csv_file import csv_text
from kd.reports.drawing import Drawing
from kd.reports.latex import latex
from kd.reports.leaderboard import Leaderboard
from kd.reports.markdown import markdown
from kd.reports.matrix import matrices
from kd.reports.page import page

log = logging.getLogger(__name__)

PAGE = "report.html"
# The page names the files of its report; of a page from a stranger, only such names count.
_MARK = re.compile(
    r'<meta name="generator" content="kd.report">\s*<meta name="files" content="(.*)">'
)
_NAME = re.compile(
    r"report\.(html|md|csv|tex)|checklist\.md|figures/[a-z0-9_][a-z0-9_.-]*\.(png|svg)"
)
_HEAD = 1_000_000  # bytes of a page in which the mark is


class Forms(NamedTuple):
    """What a report has besides its tables.

    Attributes:
        figures: drawings.
        matrix: matrices of teachers and students.
        latex: report.tex.
        checklist: checklist.md.
    """

    figures: bool = True
    matrix: bool = False
    latex: bool = False
    checklist: bool = False


_DEFAULT = Forms()


def write_report(
    board: Leaderboard,
    about: About,
    output: Path,
    forms: Forms = _DEFAULT,
) -> None:
    """Write report.md, report.csv, report.html and the figures; replace an earlier report.

    Everything is made before anything is replaced; the page is replaced first, since it alone says
    which files are the report's. Other files in the folder are left alone.

    Raises:
        UserError: `output` holds something other than a report, or is a symbolic link.
        OSError: the files cannot be written.
    """
    earlier = _earlier_files(output)
    with _scratch(output) as folder:
        drawings = _draw(board, folder / "figures") if forms.figures else []
        tables = matrices(board) if forms.matrix else []
        texts = {"report.csv": csv_text(board)}
        texts["report.md"] = markdown(board, about, drawings, tables)
        if forms.latex:
            texts["report.tex"] = latex(board, tables)
        if forms.checklist:
            texts["checklist.md"] = checklist(board, about)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        names = [path.relative_to(folder).as_posix() for path in _files(folder)]
        _check_free(output, names, earlier)
        own = {PAGE, *names}
        pages = [
            page(board, about, drawings, sorted(files), tables) for files in (own | earlier, own)
        ]
        # Until the earlier files are deleted they are still listed: this may be interrupted.
        write_atomic(output / PAGE, pages[0].encode(errors="backslashreplace"))
        for name in names:
            write_atomic(output / name, (folder / name).read_bytes())
    for name in earlier - own:
        (output / name).unlink(missing_ok=True)
    write_atomic(output / PAGE, pages[1].encode(errors="backslashreplace"))


def _earlier_files(output: Path) -> set[str]:
    """Return the files of the report that the folder holds; empty for a folder without content."""
    if is_link(output) or is_link(output / "figures"):
        raise UserError(f"output={output} is a symbolic link, or its figures are; name the folder")
    if not output.is_dir():
        if output.exists():
            raise UserError(f"output={output} is a file; choose a folder")
        return set()
    if not any(output.iterdir()):
        return set()
    mark = _MARK.search(_head(output / PAGE))
    if mark is None:
        raise UserError(f"output={output} exists and is not a report; choose an empty folder")
    listed = {name for name in mark[1].split() if _NAME.fullmatch(name)}
    return {name for name in listed if (output / name).is_file() and not is_link(output / name)}


def _head(page: Path) -> str:
    try:
        with open_regular(page) as file:
            return file.read(_HEAD).decode(errors="replace")
    except (OSError, UserError):
        return ""


def _check_free(output: Path, names: list[str], earlier: set[str]) -> None:
    """Refuse to replace a file that the earlier report did not name as its own."""
    taken = [name for name in names if name not in earlier and (output / name).exists()]
    if taken:
        raise UserError(
            f"output={output} holds {taken[0]}, which is not of the report in it; choose an empty "
            "folder"
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


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
def _scratch(output: Path) -> Iterator[Path]:
    """Provide a temporary folder beside `output`, which shows early whether there is room."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name[:50]}.", dir=output.parent) as folder:
        yield Path(folder)
