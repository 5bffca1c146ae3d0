"""Batches of decoded images, a bounded number of which are in memory."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kd.data.decode import Target, decode, failure, peak_of
from kd.data.pixels import Scale
from kd.deploy.prediction.image_files import ImageFiles
from kd.deploy.prediction.white import Peaks

_CHUNK = 256  # files whose headers are read together
Skipped = Callable[[str, str], None]  # path and reason
Progress = Callable[[int], None]  # images done since the last call
T = TypeVar("T")


class Survey(NamedTuple):
    """Number of images, and the largest values of those with more than 8 bits."""

    images: int
    peaks: Peaks


class ImageBatches:
    """Decodes images in threads, to the pixels that `data=image_folder` makes of them.

    Args:
        files: the images.
        target: the form of the decoded images.
        batch_size: most images in a batch.
    """

    def __init__(self, files: ImageFiles, target: Target, batch_size: int) -> None:
        self.files, self.target, self.batch_size = files, target, batch_size

    def survey(self, deep: bool, progress: Progress) -> Survey:
        """Count the images before they are decoded.

        Args:
            deep: look for images with more than 8 bits as well, which are decoded for this.
            progress: called with the number of images that were seen.
        """
        count, peaks = 0, Peaks()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for paths in _chunks(self.files, _CHUNK):
                count += len(paths)
                if deep:
                    peaks.add(_mapped(threads, lambda path: peak_of(path, self.target), paths))
                progress(len(paths))
        return Survey(count, peaks)

    def decoded(
        self, scale: Scale, skipped: Skipped, progress: Progress
    ) -> Iterator[tuple[list[Path], NDArray[np.uint8]]]:
        """Yield files and their images [b, C, H, W], b ≥ 1.

        Args:
            scale: of images with more than 8 bits.
            skipped: called with each image that cannot be decoded.
            progress: called after each batch with the number of its files.
        """
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for paths in _chunks(self.files, self.batch_size):
                found = _mapped(threads, lambda path: self._pixels(path, scale), paths)
                read: list[tuple[Path, bytes]] = []
                for path, result in zip(paths, found, strict=True):
                    if isinstance(result, bytes):
                        read.append((path, result))
                    else:
                        skipped(str(path), result)
                if read:
                    yield [path for path, _ in read], self._stacked([image for _, image in read])
                progress(len(paths))

    def _pixels(self, path: Path, scale: Scale) -> bytes | str:
        """Return the bytes of an image [C, H, W], or the reason why there are none."""
        try:
            return decode(path, self.target, scale).pixels
        except Exception as error:  # damaged files raise nearly anything, SyntaxError included
            # The limit is a setting of the command here, and of no data set.
            return failure(path, error).replace("data.max_megapixels", "max_megapixels")

    def _stacked(self, pixels: list[bytes]) -> NDArray[np.uint8]:
        size, channels = self.target.size, 1 if self.target.grayscale else 3
        shape = (len(pixels), channels, size, self.target.width or size)
        # Writable, unlike an array over bytes: torch warns of those.
        return np.frombuffer(bytearray(b"".join(pixels)), np.uint8).reshape(shape)


def _mapped(
    threads: ThreadPoolExecutor, function: Callable[[Path], T], paths: list[Path]
) -> list[T]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, and images that are too large
        return list(threads.map(function, paths))


def _chunks(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    rest = iter(paths)
    while chunk := list(islice(rest, size)):
        yield chunk
