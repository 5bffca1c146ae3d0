"""Listing of an image folder, with all mistakes of its layout at once."""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kd.data.arrays import digest
from kd.data.image_formats import is_image_name, starts_as_image
from kd.data.layout import Layout, find_layout, is_folder, visible_folders
from kd.data.left_out import LeftOut, printable
from kd.errors import UserError, nearest

BROKEN, EMPTY, SPECIAL = "broken link", "empty file", "no regular file"
UNREADABLE = "unreadable file"
CLOSED = "folder that cannot be read"
DAMAGED = (BROKEN, EMPTY, UNREADABLE)
# Written by operating systems and file servers; `._photo.jpg` is macOS's.
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", ".ds_store", "ehthumbs.db", ".directory", ".gitkeep"}


class ImageFile(NamedTuple):
    """One image below split/class/: path relative to the root, and what changes with its content.

    Attributes:
        path: with the names of the folders as they are.
        split: `train`, `val` or `test`.
        label: number of the class.
        size: in bytes.
        changed: time of the last change of the content [ns], which programs may set.
        status: time of the last change of the content, name or attributes [ns], which they may not.
        inode: number of the file in its file system.
    """

    path: str
    split: str
    label: int
    size: int
    changed: int
    status: int
    inode: int


class Listing(NamedTuple):
    """Class names (the sorted folder names of train/) and all images, sorted by path in a class.

    Attributes:
        class_names: in the order of their labels.
        files: the images.
        splits: those that have a folder; empty if the class folders lie in the root.
        left_out: the other files.
    """

    class_names: list[str]
    files: list[ImageFile]
    splits: list[str]
    left_out: LeftOut

    @property
    def key(self) -> str:
        """Hash that changes if a file is added, removed, renamed, moved, replaced or rewritten."""
        return digest([self.class_names, self.files])

    def damaged_with(self, failed: Mapping[str, str]) -> list[str]:
        """Images that cannot be read, each with the reason.

        Args:
            failed: reason by path of those whose decoding failed.
        """
        found = {path: why for why in DAMAGED for path in self.left_out.files.get(why, [])}
        return [f"{printable(path)} ({why})" for path, why in {**found, **failed}.items()]


def scan(root: Path) -> Listing:
    """List root/{train,val,test}/<class>/**, or root/<class>/** where there are no splits.

    Raises:
        UserError: names every missing, empty or unknown folder, or one that cannot be read.
    """
    try:
        layout = find_layout(root)
        listing, problems = _list(layout)
    except OSError as error:
        place = error.filename or root
        raise UserError(f"data.root={root}: cannot read {place}: {error.strerror}") from None
    if problems:
        there = ", ".join(map(printable, layout.there)) or "nothing"
        raise UserError(
            f"data.root={root} is not laid out as {{train,test[,val]}}/<class>/<image> or "
            f"<class>/<image>; there is: {there}:\n- " + "\n- ".join(problems)
        )
    return listing


def _list(layout: Layout) -> tuple[Listing, list[str]]:
    left_out = LeftOut()
    for folder in layout.unused:
        left_out.add("folder beside the splits", f"{folder}/")
    classes = {split: visible_folders(layout.root / path) for split, path in layout.splits.items()}
    names = sorted(classes.get("train", []))
    files: list[ImageFile] = []
    problems = list(layout.problems)
    for split, found in classes.items():
        problems += _class_problems(layout, split, found, names)
        _note_loose(layout.root, layout.splits[split], left_out)
        split_files, empty = _files_of(layout, split, found, names, left_out)
        files += split_files
        if split == "train":
            problems += [
                f"{layout.root / folder} holds no image{_of_those(left_out.below(folder))}"
                for folder in empty
            ]
    if layout.named:
        _note_loose(layout.root, ".", left_out)
    return Listing(names, files, layout.named, left_out), problems


def _of_those(left_out: LeftOut) -> str:
    return f"; left out: {left_out}" if left_out else ""


def _files_of(
    layout: Layout, split: str, found: list[str], names: list[str], left_out: LeftOut
) -> tuple[list[ImageFile], list[str]]:
    """The images of a split, and the class folders that hold none."""
    known = {_composed(name): label for label, name in enumerate(names)}
    files, empty = [], []
    for name in (name for name in sorted(found) if _composed(name) in known):
        folder, label = _join(layout.splits[split], name), known[_composed(name)]
        images = [_file(e, p, split, label) for p, e in images_below(layout.root, folder, left_out)]
        files += images
        empty += [] if images else [folder]
    return files, empty


def _class_problems(layout: Layout, split: str, found: list[str], names: list[str]) -> list[str]:
    place = layout.place(split)
    if not found:
        return [f"{place} holds no class folder"]
    if split == "train" and len(names) < 2:
        return [f"{place} needs a folder for each of two or more classes: {names}"]
    known = {_composed(name) for name in names}
    unknown = sorted(name for name in found if _composed(name) not in known)
    if split == "train" or "train" not in layout.splits or not unknown:
        return []
    hint = nearest(unknown[0], names[:20]) if names else "train/ has none"
    return [f"{place} has classes that train/ lacks: {', '.join(unknown)}; {hint}"]


def _composed(name: str) -> str:
    """A name in Unicode's composed form: macOS decomposes é, and Linux does not."""
    return unicodedata.normalize("NFC", name)


def _note_loose(root: Path, folder: str, left_out: LeftOut) -> None:
    """Note images beside the class folders."""
    for path in sorted((root / folder).iterdir()):
        if path.suffix and is_image_name(path.name) and path.name[0] != "." and path.is_file():
            left_out.add("outside a class folder", _join(folder, path.name))


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def images_below(
    root: Path, folder: str, left_out: LeftOut, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (path, entry) of all images in a folder, then of those in the folders in it.

    Files and folders that no image is read from are added to `left_out`. In memory are the names in
    one folder of each depth.

    Args:
        root: the folder that paths are relative to.
        folder: relative to it; `.` is the root itself.
        left_out: gets the files with the reasons.
        above: device and inode of the folders around it.
    """
    try:
        status = (root / folder).stat()
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        left_out.add(f"{CLOSED}: {error.strerror}", f"{folder}/")
        return
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder around it
        left_out.add("link to a folder above", f"{folder}/")
        return
    for entry in entries:
        if not is_folder(entry) and _is_usable(entry, _join(folder, entry.name), left_out):
            yield _join(folder, entry.name), entry
    for name in sorted(visible_folders(root / folder)):
        yield from images_below(root, _join(folder, name), left_out, above | {here})


def _is_usable(entry: os.DirEntry[str], path: str, left_out: LeftOut) -> bool:
    """Whether a file may be opened as an image; note it if it may not."""
    name = entry.name
    if name.lower() in _SYSTEM_FILES or name.startswith("._"):
        return False
    if why := _obstacle(entry):
        left_out.add(why, path)
    return not why


def _obstacle(entry: os.DirEntry[str]) -> str:
    suffix = PurePosixPath(entry.name).suffix
    if entry.name.startswith("."):
        return "hidden"
    if not is_image_name(entry.name):
        return printable(suffix.lower())
    try:
        # Opening a named pipe would wait for ever.
        if not entry.is_file():
            return BROKEN if entry.is_symlink() and not Path(entry.path).exists() else SPECIAL
        if not entry.stat().st_size:
            return EMPTY
        return "" if suffix or _has_image_content(entry.path) else "without suffix"
    except OSError:
        return BROKEN if entry.is_symlink() else UNREADABLE


def _has_image_content(path: str) -> bool:
    with Path(path).open("rb") as file:
        return starts_as_image(file.read(12))


def _file(entry: os.DirEntry[str], path: str, split: str, label: int) -> ImageFile:
    found = entry.stat()
    changed = found.st_mtime_ns, found.st_ctime_ns, found.st_ino
    return ImageFile(path, split, label, found.st_size, *changed)
