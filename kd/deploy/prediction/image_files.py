"""Images given as folders and files, which are listed while they are read."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kd.data.left_out import LeftOut
from kd.data.scan import CLOSED, DAMAGED, images_below
from kd.errors import UserError, closest
from kd.io.regular_files import check_regular


class ImageFiles:
    """The images among folders and files, in the order given; those of a folder by name.

    Folders are read as `data=image_folder` reads a class folder: nested ones, links to folders and
    files; no hidden or system files. In memory are the names of one folder at a time, so that there
    may be any number of images; each iteration reads the folders again.

    Args:
        given: folders, files, and patterns such as `photos/*.png` or `photos/**/*.png`, in which
            `*` leaves out hidden names.

    Attributes:
        left_out: the files that the last complete iteration left out.

    Raises:
        UserError: names each that is missing, or no file that can be read.

    Example:
        >>> ImageFiles([Path("missing.png")])
        Traceback (most recent call last):
        kd.errors.UserError: images=missing.png: there is no such folder or file
    """

    def __init__(self, given: Sequence[Path]) -> None:
        found = [(path, _matches(path)) for path in given]
        if problems := [problem for path, own in found if (problem := _problem(path, own))]:
            raise UserError("\n- ".join(problems[:10]))
        self.given = [each for path, own in found for each in (own or [path])]
        self.left_out = LeftOut()

    def __iter__(self) -> Iterator[Path]:
        self.left_out = LeftOut()
        for path in self.given:
            if path.is_dir():
                yield from (path / name for name in self._below(path))
            else:
                yield path

    def check_not_empty(self) -> None:
        """Look for the first image.

        Raises:
            UserError: there is none.
        """
        if next(iter(self), None) is None:
            left_out = f"; left out: {self.left_out}" if self.left_out else ""
            given = ", ".join(map(str, self.given))
            raise UserError(f"images={given}: there is no image{left_out}")

    def unreadable(self) -> Iterator[tuple[str, str]]:
        """Yield path and reason of the images and folders that were found and cannot be read."""
        for reason, paths in self.left_out.files.items():
            if reason in DAMAGED or reason.startswith(CLOSED):
                yield from ((path, reason) for path in paths)

    def _below(self, root: Path) -> Iterator[str]:
        found = LeftOut()
        yield from (name for name, _ in images_below(root, ".", found))
        for reason, names in found.files.items():
            for name in names:
                self.left_out.add(reason, f"{root}/{name}")


def _matches(pattern: Path) -> list[Path]:
    """Return the folders and files that a pattern stands for; none for a path."""
    if not glob.has_magic(str(pattern)) or os.path.lexists(pattern):
        return []
    found = map(Path, sorted(glob.glob(str(pattern), recursive=True)))  # noqa: PTH207
    # Opening a named pipe would wait for ever; broken links are skipped by name.
    return [path for path in found if path.is_dir() or path.is_file() or not path.exists()]


def _problem(path: Path, matches: Sequence[Path]) -> str:
    if matches:
        return ""
    try:
        if not path.is_dir():
            check_regular(path)
    except FileNotFoundError:
        if path.is_symlink():
            return f"images={path}: broken link"
        if glob.has_magic(str(path)):
            return f"images={path}: no folder or file matches this pattern"
        return f"images={path}: there is no such folder or file{_hint(path)}"
    except OSError as error:
        return f"images={path}: {error.strerror}"
    except UserError as error:
        return f"images={error}"
    return ""


def _hint(path: Path) -> str:
    try:
        close = closest(path.name, [other.name for other in path.absolute().parent.iterdir()])
    except OSError:
        return ""
    return f"; did you mean {str(path.with_name(close))!r}?" if close else ""
