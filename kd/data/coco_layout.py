"""Annotation files and image folders of the splits of a COCO folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kd.data.layout import visible_folders
from kd.data.left_out import listed
from kd.data.split_folders import SPLITS, find_splits
from kd.errors import UserError


class SplitFiles(NamedTuple):
    """Annotation file and folder of images of one split."""

    annotations: Path
    images: Path


def find_files(
    root: Path, annotations: Mapping[str, str], images: Mapping[str, str]
) -> dict[str, SplitFiles]:
    """Find annotation files and folders of images by split.

    Args:
        root: the folder.
        annotations: configured files by split.
        images: configured folders by split.

    Raises:
        UserError: there is no training split, or a split has no or several annotation files.
    """
    try:
        folders = find_splits(visible_folders(root)).folders
        found = {
            split: _split_files(root, split, folders.get(split), annotations, images)
            for split in SPLITS
            if split in folders or split in annotations
        }
        if "train" in found:
            return found
        there = listed(sorted(path.name for path in root.iterdir()), most=10) or "nothing"
    except OSError as error:
        place = error.filename or root
        raise UserError(f"data.root={root}: cannot read {place}: {error.strerror}") from None
    raise UserError(
        f"data.root={root} has no folder train with images and a COCO .json file; there is: "
        f"{there}. Name other places as data.annotations.train=… and data.images.train=…"
    )


def _split_files(
    root: Path,
    split: str,
    folder: str | None,
    annotations: Mapping[str, str],
    images: Mapping[str, str],
) -> SplitFiles:
    place = root / images.get(split, folder or ".")
    if split in annotations:
        return SplitFiles(root / annotations[split], place)
    inside = sorted(place.glob("*.json"))
    words = {split, folder or split}
    beside = [*sorted((root / "annotations").glob("*.json")), *sorted(root.glob("*.json"))]
    candidates = inside or [path for path in beside if any(word in path.stem for word in words)]
    if len(candidates) != 1:
        names = listed([str(path.relative_to(root)) for path in candidates], most=10)
        raise UserError(
            f"data.root={root}: {split} needs one COCO .json file, in {place} or as "
            f"annotations/*{split}*.json, and has {names or 'none'}; name it as "
            f"data.annotations.{split}=…"
        )
    return SplitFiles(candidates[0], place)
