"""Writing of an evaluation's folder: as a whole, in place of an earlier evaluation only."""

import json
import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path

from kd.deploy.evaluation.page import markdown, page
from kd.deploy.evaluation.sheet import Sheet
from kd.errors import UserError
from kd.io.checksums import read_intact, with_checksum
from kd.io.own_files import is_link
from kd.reports.drawing import Drawing

log = logging.getLogger(__name__)

JSON = "evaluation.json"


def write_evaluation(sheet: Sheet, output: Path, figures: bool = True) -> None:
    """Write evaluation.json, evaluation.md, evaluation.html and the figures.

    All is made in a folder beside `output`, which then takes its place.

    Raises:
        UserError: `output` holds something other than an evaluation.
        OSError: the files cannot be written; `output` is then as it was before.
    """
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name[:50]}.", dir=output.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        drawings = _draw(sheet, new) if figures else []
        (new / "evaluation.md").write_text(
            markdown(sheet, drawings), encoding="utf-8", errors="backslashreplace"
        )
        (new / "evaluation.html").write_text(
            page(sheet, drawings), encoding="utf-8", errors="backslashreplace"
        )
        files = sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file())
        content = with_checksum({**sheet.content(), "files": [*files, JSON]})
        text = json.dumps(content, indent=1, allow_nan=False)
        (new / JSON).write_text(text, encoding="utf-8")
        if output.exists():
            output.rename(Path(scratch) / "earlier")
        new.rename(output)


def check_output(output: Path) -> None:
    """Refuse a folder that holds anything but an evaluation.

    Raises:
        UserError: names the file that is not of an evaluation.
    """
    if is_link(output):
        raise UserError(f"output={output} is a symbolic link; name the folder")
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"output={output} is a file; choose a folder")
    found = sorted(p for p in output.rglob("*") if is_link(p) or not p.is_dir())
    content = read_intact(output / JSON) if (output / JSON).is_file() else None
    files = (content or {}).get("files")
    listed = files if isinstance(files, list) else []
    foreign = [p for p in found if is_link(p) or p.relative_to(output).as_posix() not in listed]
    if foreign:
        name = foreign[0].relative_to(output)
        raise UserError(
            f"output={output} holds {name}, which is not of an evaluation; choose an empty folder"
        )


def _draw(sheet: Sheet, folder: Path) -> list[Drawing]:
    if find_spec("matplotlib") is None:
        log.warning("no figures: matplotlib is not installed; pip install -e '.[plots]'")
        return []
    from kd.deploy.evaluation.figures import draw_figures

    (folder / "figures").mkdir()
    return draw_figures(sheet, folder / "figures")
