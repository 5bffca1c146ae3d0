"""Placement of an exported file and its sheet: all of them, and over nothing foreign, or none."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd.deploy.exporting.sheet import is_former_export, sheet_files
from kd.errors import UserError
from kd.io.own_files import is_link

_SECOND = {".xml": ".bin"}  # suffix of a file that belongs to one of the first suffix


def files_of(file: Path) -> list[Path]:
    """Return an exported file, then the one that belongs to it, if its format has two."""
    return [file, *(file.with_suffix(s) for s in [_SECOND.get(file.suffix)] if s)]


def check_free(output: Path) -> None:
    """Refuse to replace anything but an earlier export.

    Raises:
        UserError: something else is there.
    """
    files = [*files_of(output), *sheet_files(output)]
    with _refusing(output):
        for path in files:
            if is_link(path) or path.is_dir():
                raise UserError(
                    f"output={output}: {path} is a folder or a link; choose another name"
                )
        if not output.exists():
            for path in files[1:]:
                if path.exists():
                    raise UserError(f"output={output}: {path} is in the way; choose another name")
        elif not is_former_export(output):
            raise UserError(
                f"output={output} exists and is not an earlier export; choose another name"
            )


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Provide a temporary folder beside `output`; a folder that this made is removed if unused.

    Raises:
        UserError: something in it cannot be written.
    """
    made = [path for path in (output.parent, *output.parent.parents) if not path.exists()]
    try:
        with _refusing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".export.", dir=output.parent) as folder:
                yield Path(folder)
    finally:
        for path in made:
            if not path.is_dir() or any(path.iterdir()):
                break
            path.rmdir()


def place(file: Path, output: Path) -> None:
    """Move an exported file and its sheet out of the temporary folder.

    The sheet comes last: without it, a file that was moved is not taken for an export.
    """
    for path in (*reversed(files_of(file)), *reversed(sheet_files(file))):
        path.replace(output.parent / path.name)


@contextmanager
def _refusing(output: Path) -> Iterator[None]:
    """Turn an error of the disk or of a name into a message about `output`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"output={output} cannot be written: {error.strerror or error}; choose another place"
        ) from error
