"""Layout of an image folder: which of its folders are splits, and which are classes."""

import os
from pathlib import Path
from typing import NamedTuple

from kd.data.image_formats import is_image_name
from kd.data.left_out import listed
from kd.data.split_folders import SPLITS, find_splits, split_of
from kd.errors import UserError

# Written by operating systems, file servers and editors
_SYSTEM_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "__pycache__", "lost+found",
    "system volume information",
}  # fmt: skip


class Layout(NamedTuple):
    """Where the class folders of each split lie.

    Attributes:
        root: the folder.
        splits: folder of each split, relative to the root; `train` is `.` if there are no splits.
        unused: names of folders that are neither a split nor a class.
        problems: why the layout cannot be used, one sentence each.
        there: names of what lies in the root.
    """

    root: Path
    splits: dict[str, str]
    unused: list[str]
    problems: list[str]
    there: list[str]

    @property
    def named(self) -> list[str]:
        """The splits that have a folder of their own."""
        return [split for split, folder in self.splits.items() if folder != "."]

    def place(self, split: str) -> Path:
        return self.root / self.splits[split]


def find_layout(root: Path) -> Layout:
    """Find the folders of the splits, or decide that the root holds the classes.

    Raises:
        UserError: the root is no folder that can be read.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is not a folder")
    try:
        folders = visible_folders(root)
        there = sorted(e.name + "/" * e.is_dir() for e in root.iterdir() if e.name[0] != ".")
    except OSError as error:
        raise UserError(f"data.root={root} cannot be read: {error.strerror}") from None
    found = find_splits(folders)
    if not _are_classes(root, folders):
        problems = [
            f"{', '.join(names)} are all names of the split {split}: rename one to {split}"
            for split, names in found.ambiguous.items()
        ]
        if "train" not in found.folders and "train" not in found.ambiguous:
            problems.append(f"{root / 'train'} is missing{_hint(root, folders)}")
        splits = {split: found.folders[split] for split in SPLITS if split in found.folders}
        return Layout(root, splits, found.others, problems, _shortened(there))
    return Layout(root, {"train": "."}, [], [], _shortened(there))


def _hint(root: Path, folders: list[str]) -> str:
    """The reason why there is no train folder, as far as it shows."""
    inner = [f for f in folders if "train" in find_splits(visible_folders(root / f)).folders]
    if inner:  # archives are often unpacked into a folder more
        return f"; did you mean data.root={root / inner[0]}?"
    if _has_image(root):
        return (
            ", and images lie in the root itself: move those of each class to a folder of its own"
        )
    if len(folders) == 1 and _has_image(root / folders[0]):
        return f", and {folders[0]}/ is a single class: two or more are needed"
    return ""


def _are_classes(root: Path, folders: list[str]) -> bool:
    """Whether the folders of the root are classes.

    A class may be called as a split is (train, beside car and bus): it holds images, and a split
    holds folders.
    """
    named = [folder for folder in folders if split_of(folder)]
    if any(visible_folders(root / folder) for folder in named):
        return False
    return len(named) <= 1 < len(folders) and all(_has_image(root / f) for f in named)


def _has_image(folder: Path) -> bool:
    names = (path.name for path in folder.iterdir() if path.is_file())
    return any(is_image_name(name) and name[0] != "." for name in names)


def _shortened(there: list[str]) -> list[str]:
    return [listed(there, most=12)] if there else []


def visible_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, links to folders included, but for hidden ones and those
    of systems.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_folder(entry)]
    return [n for n in names if n[0] != "." and n.lower() not in _SYSTEM_FOLDERS]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
