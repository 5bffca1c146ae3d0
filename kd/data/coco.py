"""Data module of a folder with COCO annotation files."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.data.arrays import Arrays, digest
from kd.data.coco_file import CocoFile, CocoImage, read_coco, scaled_rows
from kd.data.coco_layout import SplitFiles, find_files
from kd.data.decode import MAX_MEGAPIXELS, Target, decode_all, failure, stored_size
from kd.data.detection import DetectionDataModule, padded_rows
from kd.data.left_out import listed, printable
from kd.data.split_folders import SPLITS
from kd.data.splits import stratified_split
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.io.tensors import Stored

log = logging.getLogger(__name__)
FORMAT = 1  # to be raised when decoding changes: caches of another format are replaced
_NAMED = 10  # images in a message


class Coco(DetectionDataModule):
    """Images with a COCO annotation file for each split, kept in memory at one size.

    An image is scaled to fit a square, whose rest is black; it is not turned as its EXIF says,
    since boxes are about the stored pixels. Annotations of crowds are left out. Without a test
    split, a seeded part of the training images becomes it; without a validation split,
    `val_fraction` of them. The decoded images are stored in root/.kd_cache.

    Args:
        root: folder with root/{train,val,test}/ (or train2017, valid …), each with its images and
            one .json file, or with root/annotations/*train*.json and so on.
        image_size: height and width in pixels.
        annotations: other annotation files by split, absolute or below root; None: that of the
            split's folder.
        images: other folders of images by split, as annotations.
        bad_boxes: `refuse` a file with boxes outside their image or without area, or `drop` these.
        grayscale: one channel instead of three.
        workers: number of decoding threads; None: one for each core.
        test_fraction: fraction of the training images, in (0, 1), that becomes the test set.
        test_seed: of that split.
        max_megapixels: files that have to be decoded to more pixels are refused.
        **common: as `DetectionDataModule`.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        annotations: Mapping[str, str | None] | None = None,
        images: Mapping[str, str | None] | None = None,
        bad_boxes: str = "refuse",
        grayscale: bool = False,
        workers: int | None = None,
        test_fraction: float = 0.2,
        test_seed: int = 0,
        max_megapixels: float = MAX_MEGAPIXELS,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if image_size < 1:
            raise ValueError(f"image_size must be ≥ 1, got {image_size!r}")
        if bad_boxes not in ("refuse", "drop"):
            raise ValueError(f"bad_boxes must be refuse or drop, got {bad_boxes!r}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}")
        if not 0 <= test_seed < 2**63:
            raise ValueError(f"test_seed must be ≥ 0 and below 2**63, got {test_seed!r}")
        for name, paths in {"annotations": annotations, "images": images}.items():
            if unknown := set(paths or ()) - {*SPLITS}:
                raise ValueError(f"{name} must be by split, {SPLITS}, got {sorted(unknown)}")
        self.root = Path(root).expanduser().absolute()
        self.target = Target(image_size, grayscale, max_megapixels, letterbox=True)
        self.annotations, self.images = _given(annotations), _given(images)
        self.drop, self.workers = bad_boxes == "drop", workers
        self.test_fraction, self.test_seed = test_fraction, test_seed

    def fetch(self) -> None:
        self._load_pool()

    def load(self) -> Arrays:
        files = find_files(self.root, self.annotations, self.images)
        train = read_coco(files["train"].annotations, None, self.drop)
        splits = {"train": train}
        for split in files.keys() - {"train"}:
            splits[split] = read_coco(files[split].annotations, train.class_names, self.drop)
        most = max(len(image.rows) for found in splits.values() for image in found.images)
        fields: dict[str, Any] = {}
        for split, found in splits.items():
            self._report(split, found)
            rows = [list(scaled_rows(image, self.target.size)) for image in found.images]
            arrays = [np.array(each, np.float32).reshape(-1, 5) for each in rows]
            fields[f"{split}_inputs"] = self._pixels(split, files[split], found.images)
            fields[f"{split}_targets"] = padded_rows(arrays, max(most, 1))
        if "test" not in files:
            fields |= self._held_out(fields)
        return Arrays(class_names=train.class_names, **fields)

    def _report(self, split: str, found: CocoFile) -> None:
        empty = sum(not len(image.rows) for image in found.images)
        boxes = sum(len(image.rows) for image in found.images)
        log.info(
            "data %r: %s has %d images, %d boxes, %d images without any, %d crowds left out",
            *(self.name, split, len(found.images), boxes, empty, found.crowds),
        )
        if found.dropped:
            count = len(found.dropped)
            log.warning("data %r: %s: %d boxes left out: %s", self.name, split, count,
                        listed(found.dropped))  # fmt: skip

    def _held_out(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        targets = fields["train_targets"]
        one_class = torch.zeros(len(targets), dtype=torch.int64)
        rows = stratified_split(one_class, self.test_fraction, self.test_seed)
        if not len(rows[1]):
            raise UserError(
                f"data.test_fraction={self.test_fraction:g} holds out none of {len(targets)} "
                "images; raise it, or add a test folder"
            )
        return {
            f"{split}_{part}": fields[f"train_{part}"][chosen]
            for split, chosen in zip(("train", "test"), rows, strict=True)
            for part in ("inputs", "targets")
        }

    def _pixels(self, split: str, files: SplitFiles, images: list[CocoImage]) -> Tensor:
        """Images uint8 [N, C, size, size], from the cache if no file has changed."""
        key = _key(self.target, files, images)
        colours = "gray" if self.target.grayscale else "rgb"
        name = f"coco-{split}-{self.target.size}-{colours}.safetensors"
        place = self.root / ".kd_cache" / name
        if stored := tensor_file.read(place, key):
            return stored.tensors["images"]
        with tensor_file.first_writable([place]) as path:
            decoded = self._decoded(files, images)
            try:
                if path is not None:
                    tensor_file.write(path, key, Stored({"images": decoded}, []))
            except OSError as error:
                log.warning("images are decoded again next time: %s: %s", path, error)
        return decoded

    def _decoded(self, files: SplitFiles, images: list[CocoImage]) -> Tensor:
        paths = [files.images / image.name for image in images]
        problems = [
            f"{printable(str(path))}: {why}"
            for path, image in zip(paths, images, strict=True)
            if (why := _size_problem(path, image))
        ]
        if not problems:
            decoded = decode_all(paths, self.target, self.workers)
            failed = sorted(decoded.failed.items())
            problems = [f"{printable(str(paths[n]))}: {why}" for n, why in failed]
            if not problems:
                return decoded.images
        more = f"\n- and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise UserError(f"{files.annotations}:\n- " + "\n- ".join(problems[:_NAMED]) + more)


def _given(paths: Mapping[str, str | None] | None) -> dict[str, str]:
    """Paths by split, without those that are to be found."""
    return {split: str(path) for split, path in (paths or {}).items() if path is not None}


def _size_problem(path: Path, image: CocoImage) -> str:
    """Why a file is not the image that the annotations are about; "" if it is."""
    expected = image.width, image.height
    try:
        found = stored_size(path)
    except FileNotFoundError:
        return "the file is missing"
    except Exception as error:  # of a damaged file; nearly any
        return failure(path, error)
    if found == expected:
        return ""
    said = " x ".join(map(str, expected))
    turned = ", as if turned by its EXIF orientation" if found == expected[::-1] else ""
    return f"it has {found[0]} x {found[1]} pixels, and the annotations say {said}{turned}"


def _key(target: Target, files: SplitFiles, images: list[CocoImage]) -> str:
    facts: list[object] = [FORMAT, target, str(files.images)]
    for image in images:
        try:
            status = (files.images / image.name).stat()
            facts.append((image.name, image.width, status.st_size, status.st_mtime_ns))
        except OSError:
            facts.append((image.name, "missing"))
    return hashlib.blake2b(digest(facts).encode(), digest_size=16).hexdigest()
