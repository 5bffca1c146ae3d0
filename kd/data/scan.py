"""Listing of an image folder, with all mistakes of its layout at once."""

import os
from pathlib import Path
from typing import NamedTuple

from kd.data.arrays import digest
from kd.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "val", "test")


class ImageFile(NamedTuple):
    """One file of split/class/: path relative to the root, size [bytes], time of change [ns]."""

    path: str
    split: str
    label: int
    size: int
    changed: int


class Listing(NamedTuple):
    """Class names (the sorted folder names of train/) and all files, sorted by path in a split."""

    class_names: list[str]
    files: list[ImageFile]

    @property
    def key(self) -> str:
        """Hash that changes if a file is added, removed, renamed, moved or rewritten."""
        return digest([self.class_names, self.files])


def scan(root: Path) -> Listing:
    """List root/{train,test}[/val]/<class>/*.

    Raises:
        UserError: names every missing, empty or unknown folder.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is not a folder")
    present = [split for split in SPLITS if (root / split).is_dir()]
    problems = [f"{root / split} is missing" for split in ("train", "test") if split not in present]
    classes = {split: _visible(root / split, folders=True) for split in present}
    names = sorted(classes.get("train", {}))
    if "train" in present and len(names) < 2:
        problems.append(f"{root / 'train'} needs a folder for each of two or more classes: {names}")
    files = []
    for split in present:
        if not classes[split]:
            problems.append(f"{root / split} holds no class folder")
        if "train" in present and (unknown := sorted(set(classes[split]) - set(names))):
            problems.append(f"{root / split} has classes that train/ lacks: {', '.join(unknown)}")
        for name in sorted(set(classes[split]) & set(names)):
            found = _images(classes[split][name], split, names.index(name))
            files += found
            if not found:
                problems.append(f"{root / split / name} holds no {'/'.join(SUFFIXES)} file")
    if problems:
        raise UserError(
            f"data.root={root} is not laid out as {{train,test[,val]}}/<class>/<image>:\n- "
            + "\n- ".join(problems)
        )
    return Listing(names, files)


def _visible(folder: Path, folders: bool) -> dict[str, os.DirEntry[str]]:
    """Entries by name; hidden ones (.DS_Store, ._photo.jpg, .ipynb_checkpoints) are not data."""
    with os.scandir(folder) as entries:
        return {
            entry.name: entry
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir() == folders
        }


def _images(folder: os.DirEntry[str], split: str, label: int) -> list[ImageFile]:
    files = []
    for name, entry in sorted(_visible(Path(folder.path), folders=False).items()):
        if name.lower().endswith(SUFFIXES):
            status = entry.stat()
            path = f"{split}/{folder.name}/{name}"
            files.append(ImageFile(path, split, label, status.st_size, status.st_mtime_ns))
    return files
