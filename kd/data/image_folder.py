"""Data module of a folder of images, which are decoded once."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.decode import MAX_MEGAPIXELS, DecodedAll, Target, decode_all
from kd.data.folder_report import report
from kd.data.held_out import hold_out_test
from kd.data.left_out import printable
from kd.data.scan import Listing, scan
from kd.data.split_folders import SPLITS
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.io.tensors import Stored

log = logging.getLogger(__name__)
FORMAT = 2  # to be raised when decoding changes: caches of another format are replaced
MAX_DAMAGED = 0.01  # fraction of the files; more are a mistake in the folder, not single bad files
FEW_DAMAGED = 3  # of a small folder, but no more than a tenth


class ImageFolder(ImageDataModule):
    """root/{train,val,test}/<class>/** or root/<class>/**, kept in memory at one size.

    Split folders have any common name (`Train`, `valid`, `testing`). Class names are the sorted
    folder names of train/; folders inside a class folder belong to the class. Without a test
    folder, a seeded, stratified part of the training images becomes the test set. One log line
    tells what was split, and counts what was left out.

    The decoded images are stored in one cache file, which is replaced when a file is added,
    removed or changed. Damaged images are left out by name; more than 1 % of damaged images (and
    more than three, or than a tenth of the folder) is a `UserError`.

    Args:
        root: the folder.
        image_size: height and width; the shorter side is scaled to it, the centre cropped.
        grayscale: one channel instead of three.
        workers: number of decoding threads; None: one for each core.
        cache_dir: folder of the cache if root/.kd_cache cannot be written.
        test_fraction: fraction of each class, in (0, 1), that becomes the test set; unused if
            there is a test folder.
        test_seed: of that split; `seed` and `split_seed` do not change which images are tested.
        max_megapixels: files that have to be decoded to more pixels are damaged.
        **common: as `ImageDataModule`; val_fraction is unused if val/ exists.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        grayscale: bool = False,
        workers: int | None = None,
        cache_dir: str = "~/.cache/kd",
        test_fraction: float = 0.2,
        test_seed: int = 0,
        max_megapixels: float = MAX_MEGAPIXELS,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if image_size < 1:
            raise ValueError(f"image_size must be ≥ 1, got {image_size!r}")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be ≥ 1 or null, got {workers!r}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}")
        if not 0 <= test_seed < 2**63:
            raise ValueError(f"test_seed must be ≥ 0 and below 2**63, got {test_seed!r}")
        if not max_megapixels > 0:
            raise ValueError(f"max_megapixels must be > 0, got {max_megapixels!r}")
        self.root = Path(root).expanduser().absolute()
        # Not `image_size`, which is a property of the base class: the size of the loaded images.
        self.side, self.grayscale, self.workers = image_size, grayscale, workers
        self.cache_dir = Path(cache_dir).expanduser()
        self.test_fraction, self.test_seed = test_fraction, test_seed
        self.max_megapixels = max_megapixels
        self._paths: dict[str, list[str]] = {}

    def fetch(self) -> None:
        self._load_pool()

    def load(self) -> Arrays:
        listing = scan(self.root)
        stored = self._cached(listing)
        failed: dict[str, str] = json.loads(stored.notes[0])
        self._check_damaged(listing, failed)
        fields = {
            f"{split}_{field}": stored.tensors.get(f"{split}_{part}")
            for split in SPLITS
            for field, part in (("inputs", "images"), ("targets", "targets"))
        }
        self._paths = {
            split: [f.path for f in listing.files if f.split == split and f.path not in failed]
            for split in SPLITS
        }
        if fields["test_inputs"] is None:
            fields |= hold_out_test(fields, self._paths, self.test_fraction, self.test_seed)
        arrays = Arrays(class_names=listing.class_names, **fields)  # type: ignore[arg-type]
        report(self, listing, arrays, failed, stored.notes[1:])
        return arrays

    def image_name(self, split: str, row: int) -> str:
        return printable(self._paths[split][row])

    def cache_files(self) -> list[Path]:
        """Possible paths of the cache, the preferred one first."""
        name = f"{self.side}-{'gray' if self.grayscale else 'rgb'}.safetensors"
        root = hashlib.blake2b(str(self.root).encode(), digest_size=6).hexdigest()
        return [self.root / ".kd_cache" / name, self.cache_dir / f"{self.root.name}-{root}-{name}"]

    def _cached(self, listing: Listing) -> Stored:
        key = f"{FORMAT} {self.max_megapixels:g} {listing.key}"
        for path in self.cache_files():
            if stored := tensor_file.read(path, key):
                return stored
        with tensor_file.first_writable(self.cache_files()) as place:
            # Another process may have written it while this one waited for the lock.
            if place and (stored := tensor_file.read(place, key)):
                return stored
            stored = self._decode(listing)
            self._keep(place, key, stored)
        return stored

    def _keep(self, place: Path | None, key: str, stored: Stored) -> None:
        try:
            if place is None:
                raise OSError("no folder can be written")
            tensor_file.write(place, key, stored)
        except OSError as error:
            places = " or ".join(map(str, self.cache_files()))
            log.warning("images are decoded again next time: %s: %s", places, error)

    def _decode(self, listing: Listing) -> Stored:
        paths = [self.root / file.path for file in listing.files]
        target = Target(self.side, self.grayscale, self.max_megapixels)
        decoded = decode_all(paths, target, self.workers)
        failed = {listing.files[i].path: decoded.failed[i] for i in sorted(decoded.failed)}
        self._check_damaged(listing, failed)
        return Stored(_by_split(listing, decoded), [json.dumps(failed), *decoded.facts])

    def _check_damaged(self, listing: Listing, failed: Mapping[str, str]) -> None:
        damaged = listing.damaged_with(failed)
        count = len(listing.files) + len(listing.damaged_with({}))
        if len(damaged) > max(MAX_DAMAGED * count, min(FEW_DAMAGED, count // 10), 1):
            raise UserError(
                f"data.root={self.root}: {len(damaged)} of {count} images cannot be read, more "
                f"than {MAX_DAMAGED:.0%}:\n- " + "\n- ".join(damaged[:10])
            )


def _by_split(listing: Listing, decoded: DecodedAll) -> dict[str, torch.Tensor]:
    tensors = {}
    for split in {file.split for file in listing.files} | {*listing.splits}:
        rows = [
            i for i, f in enumerate(listing.files) if f.split == split and i not in decoded.failed
        ]
        labels = [listing.files[i].label for i in rows]
        tensors[f"{split}_images"] = decoded.images[torch.tensor(rows, dtype=torch.int64)]
        tensors[f"{split}_targets"] = torch.tensor(labels, dtype=torch.int64)
    return tensors
