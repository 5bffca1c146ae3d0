"""Data module of a folder of images, which are decoded once."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.decode import decode_all
from kd.data.scan import SPLITS, Listing, scan
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.io.tensors import Stored

log = logging.getLogger(__name__)
FORMAT = 1  # to be raised when decoding changes: caches of another format are replaced
MAX_DAMAGED = 0.01  # fraction of the files; more are a mistake in the folder, not single bad files


class ImageFolder(ImageDataModule):
    """root/{train,test}[/val]/<class>/*.{jpg,jpeg,png}, kept in memory at one size.

    Class names are the sorted folder names of train/. The decoded images are stored in one cache
    file, which is replaced when a file is added, removed or changed. Damaged images are left out
    with a warning that names them; more than 1 % of damaged images is a `UserError`.

    Args:
        root: the folder.
        image_size: height and width; the shorter side is scaled to it, the centre cropped.
        grayscale: one channel instead of three.
        workers: number of decoding threads; None: one for each core.
        cache_dir: folder of the cache if root/.kd_cache cannot be written.
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
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if image_size < 1:
            raise ValueError(f"image_size must be ≥ 1, got {image_size!r}")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be ≥ 1 or null, got {workers!r}")
        self.root = Path(root).expanduser().absolute()
        # Not `image_size`, which is a property of the base class: the size of the loaded images.
        self.side, self.grayscale, self.workers = image_size, grayscale, workers
        self.cache_dir = Path(cache_dir).expanduser()

    def fetch(self) -> None:
        self._pool.load(self.load, self.name)

    def load(self) -> Arrays:
        listing = scan(self.root)
        stored = self._cached(listing)
        if stored.notes:
            names = "\n- ".join(stored.notes[:10])
            log.warning(
                "%s: %d damaged images left out:\n- %s", self.root, len(stored.notes), names
            )
        fields = {
            f"{split}_{part}": stored.tensors.get(f"{split}_{part}")
            for split in SPLITS
            for part in ("images", "targets")
        }
        return Arrays(class_names=listing.class_names, **fields)  # type: ignore[arg-type]

    def cache_files(self) -> list[Path]:
        """Possible paths of the cache, the preferred one first."""
        name = f"{self.side}-{'gray' if self.grayscale else 'rgb'}.safetensors"
        root = hashlib.blake2b(str(self.root).encode(), digest_size=6).hexdigest()
        return [self.root / ".kd_cache" / name, self.cache_dir / f"{self.root.name}-{root}-{name}"]

    def _cached(self, listing: Listing) -> Stored:
        key = f"{FORMAT} {listing.key}"
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
        images, failed = decode_all(paths, self.side, self.grayscale, self.workers)
        notes = [f"{listing.files[i].path} ({failed[i]})" for i in sorted(failed)]
        if len(failed) > MAX_DAMAGED * len(paths):
            raise UserError(
                f"data.root={self.root}: {len(failed)} of {len(paths)} images cannot be read, more "
                f"than {MAX_DAMAGED:.0%}:\n- " + "\n- ".join(notes[:10])
            )
        tensors = {}
        for split in {file.split for file in listing.files}:
            rows = [i for i, f in enumerate(listing.files) if f.split == split and i not in failed]
            labels = [listing.files[i].label for i in rows]
            tensors[f"{split}_images"] = images[torch.tensor(rows, dtype=torch.int64)]
            tensors[f"{split}_targets"] = torch.tensor(labels, dtype=torch.int64)
        return Stored(tensors, notes)
