"""Writing of an evaluation's folder: as a whole, in place of an earlier evaluation only."""

import json
import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd.deploy.evaluation.page import markdown, page
from kd.deploy.evaluation.sheet import Sheet
from kd.errors import UserError
from kd.io.checksums import read_intact, with_checksum
from kd.io.exchange import replace_folder
from kd.io.own_files import is_link
from kd.reports.drawing import Drawing

log = logging.getLogger(__name__)

JSON = "evaluation.json"


def write_evaluation(sheet: Sheet, output: Path, figures: bool = True) -> None:
    """Write evaluation.json, evaluation.md, evaluation.html and the figures.

    All is made in a folder beside `output`, which then takes its place.

    Raises:
        UserError: `output` holds something other than an evaluation, or the files cannot be
            written; `output` is then as it was before.
    """
    check_output(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{output.name[:50]}."
        with tempfile.TemporaryDirectory(prefix=prefix, dir=output.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            _write_files(sheet, new, figures)
            replace_folder(new, output, Path(scratch) / "earlier")
    except OSError as error:  # of a file in the scratch folder, which is deleted
        raise UserError(
            f"output={output} cannot be written: {error.strerror or error}; choose another place"
        ) from error


def _write_files(sheet: Sheet, folder: Path, figures: bool) -> None:
    drawings = _draw(sheet, folder) if figures else []
    for name, text in (
        ("evaluation.md", markdown(sheet, drawings)),
        ("evaluation.html", page(sheet, drawings)),
    ):
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    content = with_checksum({**sheet.content(), "files": [*files, JSON]})
    (folder / JSON).write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def check_output(output: Path) -> None:
    """Refuse a folder that holds anything but an evaluation, or that cannot be written.

    Raises:
        UserError: names the file that is in the way.
    """
    if is_link(output):
        raise UserError(f"output={output} is a symbolic link; name the folder")
    above = next(each for each in output.absolute().parents if each.exists() or is_link(each))
    if not above.is_dir():
        raise UserError(f"output={output}: {above} is no folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"output={output}: {above} cannot be written; choose another place")
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"output={output} is a file; choose a folder")
    content = read_intact(output / JSON) if (output / JSON).is_file() else None
    files = (content or {}).get("files")
    name = _foreign(output, set(filter(_is_text, files)) if isinstance(files, list) else set())
    if name is not None:
        raise UserError(
            f"output={output} holds {name}, which is not of an evaluation; choose an empty folder"
        )


def _foreign(output: Path, own: set[str]) -> str | None:
    """Return the first file or link that is not one of `own`; None if there is none."""
    for folder, subfolders, files in os.walk(output):
        links = [name for name in subfolders if is_link(Path(folder, name))]
        for path in (Path(folder, name) for name in sorted([*files, *links])):
            name = path.relative_to(output).as_posix()
            if is_link(path) or name not in own:
                return name
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _draw(sheet: Sheet, folder: Path) -> list[Drawing]:
    if find_spec("matplotlib") is None:
        log.warning("no figures: matplotlib is not installed; pip install -e '.[plots]'")
        return []
    from kd.deploy.evaluation.figures import draw_figures

    (folder / "figures").mkdir()
    return draw_figures(sheet, folder / "figures")
