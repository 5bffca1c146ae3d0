"""Decoding of image files into one uint8 tensor."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kd.data.image_formats import NAMES, READERS, foreign_kind
from kd.data.pixels import COLOUR, Peak, Scale, colour_peak, deep_colour, scale_of, to_8_bit

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)
CHUNK = 64  # files a task: scheduling a single 32x32 image costs as much as decoding it
MAX_MEGAPIXELS = 64.0  # 64 MP take 0.2 GB in colour and as much while they are scaled
# Larger ones are decoded one at a time: on 16 cores memory stays below 2 GB.
_ALONE = 16 * 10**6
_one_large = threading.Lock()


class Decoded(NamedTuple):
    """One image: bytes [C, size, size], the largest value beyond 8 bits, and further frames."""

    pixels: bytes
    peak: Peak | None = None
    more_frames: bool = False


class DecodedAll(NamedTuple):
    """Many images.

    Attributes:
        images: uint8 [N, C, size, size], where failed ones are black.
        failed: reason of each failure by position.
        facts: what a user should know about how the files were read, in words.
    """

    images: Tensor
    failed: dict[int, str]
    facts: list[str]


class Target(NamedTuple):
    """Form of the result.

    Attributes:
        size: height and width in pixels.
        grayscale: one channel instead of three.
        max_megapixels: limit of the pixels that a file has to be decoded to.
        width: another width than `size`.
        letterbox: scale the whole image into the square, at the top left of black, and do not turn
            it; otherwise it is turned upright and its centre is cut out.
    """

    size: int
    grayscale: bool
    max_megapixels: float = MAX_MEGAPIXELS
    width: int | None = None
    letterbox: bool = False


def decode(path: Path, target: Target, scale: Scale = Scale()) -> Decoded:  # noqa: B008
    """Decode the first frame of one image.

    It is turned as its EXIF orientation says. The shorter side is scaled to `size` (bilinear with
    antialiasing), and the centre is cropped. Large JPEGs are decoded at the smallest scale that has
    twice the pixels needed. Transparency is dropped, as in torchvision.

    Args:
        path: the file.
        target: the form of the result.
        scale: of images with more than 8 bits.

    Raises:
        ValueError: too many pixels, or values without a known scale.
        Exception: nearly any other, of a damaged file.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling
    from PIL.Image import open as open_image

    mode, size = "L" if target.grayscale else "RGB", (target.width or target.size, target.size)
    with open_image(path, formats=READERS) as file:
        whole = file.size
        more, deep = bool(getattr(file, "is_animated", False)), deep_colour(file)
        more = more and file.format != "MPO"  # a photograph with its preview
        with _bounded(file, mode, target):
            file.load()
            if not target.letterbox:
                _turn_upright(file)
            image, peak = to_8_bit(file, scale)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            if image.mode != mode:
                image = image.convert(mode)
            if deep:
                peak = colour_peak(image, scale)
    if target.letterbox:
        image = _letterboxed(image, whole, target.size)
    elif image.size != size:
        image = ImageOps.fit(image, size, Resampling.BILINEAR)
    return Decoded(b"".join(channel.tobytes() for channel in image.split()), peak, more)


def letterbox_size(whole: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of an image that is scaled into a square.

    Example:
        >>> letterbox_size((200, 100), 50)
        (50, 25)
    """
    scale = size / max(whole)
    width, height = (max(1, min(size, round(side * scale))) for side in whole)
    return width, height


def _letterboxed(image: Image.Image, whole: tuple[int, int], size: int) -> Image.Image:
    """Scale an image, of `whole` pixels before a JPEG's scale was chosen, into a black square."""
    from PIL import Image as Pillow

    square = Pillow.new(image.mode, (size, size))
    square.paste(image.resize(letterbox_size(whole, size), Pillow.Resampling.BILINEAR))
    return square


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is stored, from its header.

    Raises:
        OSError: the file is missing, or no image.
    """
    from PIL.Image import open as open_image

    with open_image(path, formats=READERS) as file:
        return file.size


def peak_of(path: Path, target: Target) -> Peak | None:
    """Return the largest value of an image with more than 8 bits.

    Other images are not decoded; their pixels need no scale. None for these and damaged ones.
    """
    from PIL.Image import open as open_image

    try:
        with open_image(path, formats=READERS) as file:
            deep = file.mode[0] in "IF" or deep_colour(file)
        return decode(path, target).peak if deep else None
    except Exception:  # damaged files raise nearly anything; `failure` names the reason
        return None


def _bounded(
    file: Image.Image, mode: str, target: Target
) -> contextlib.AbstractContextManager[object]:
    """Choose a JPEG's smallest sufficient scale; return what limits the images in memory."""
    whole = file.size
    file.draft(mode, (2 * (target.width or target.size), 2 * target.size))
    # The coefficients of a progressive JPEG are in memory whole, whatever the scale.
    width, height = whole if file.info.get("progressive") else file.size
    if width * height > target.max_megapixels * 10**6:
        raise ValueError(
            f"too large: {whole[0]} x {whole[1]} pixels, "
            f"more than data.max_megapixels={target.max_megapixels:g}"
        )
    return _one_large if width * height > _ALONE else contextlib.nullcontext()


def _turn_upright(file: Image.Image) -> None:
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # damaged EXIF data raise nearly anything
        ImageOps.exif_transpose(file, in_place=True)


def decode_all(paths: Sequence[Path], target: Target, workers: int | None = None) -> DecodedAll:
    """Decode many images in threads; images with more than 8 bits share one scale.

    Args:
        paths: N files.
        target: the form of the results.
        workers: number of threads; None: one for each core.
    """
    log.info("decoding %d images, once", len(paths))
    job = _Job(paths, target)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as threads:
        warnings.simplefilter("ignore")  # about damaged metadata, and images that are too large
        job.run(range(len(paths)), Scale(), threads)
        scale = scale_of(job.peaks.values())
        if scale != Scale():
            job.run(sorted(job.peaks), scale, threads)
    return DecodedAll(job.images, job.failed, job.facts(scale))


class _Job:
    """Decodes files into rows of one tensor."""

    def __init__(self, paths: Sequence[Path], target: Target) -> None:
        self.paths, self.target = paths, target
        shape = (len(paths), 1 if target.grayscale else 3, target.size, target.size)
        self.images = torch.zeros(shape, dtype=torch.uint8)
        # Bytes, not tensor operations: between small ones torch's own threads spin, taking cores.
        self.buffer = self.images.view(-1).numpy().data
        self.failed: dict[int, str] = {}
        self.peaks: dict[int, Peak] = {}
        self.more_frames: set[int] = set()

    def run(self, rows: Sequence[int], scale: Scale, threads: ThreadPoolExecutor) -> None:
        def task(chunk: Sequence[int]) -> None:
            for row in chunk:
                self._one(row, scale)

        chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        _watch(threads.map(task, chunks), len(chunks))

    def _one(self, row: int, scale: Scale) -> None:
        step = len(self.buffer) // len(self.paths)
        try:
            found = decode(self.paths[row], self.target, scale)
        except Exception as error:  # damaged files raise nearly anything, SyntaxError included
            self.failed[row] = failure(self.paths[row], error)
            self.buffer[row * step : (row + 1) * step] = bytes(step)
            return
        self.buffer[row * step : (row + 1) * step] = found.pixels
        if found.peak is not None:
            self.peaks[row] = found.peak
        if found.more_frames:
            self.more_frames.add(row)

    def facts(self, scale: Scale) -> list[str]:
        facts = []
        if frames := len(self.more_frames):
            facts.append(f"of {frames} with several frames or pages the first is used")
        if scale.bits < 16 and any(p.kind != COLOUR for p in self.peaks.values()):
            facts.append(f"16-bit files hold {scale.bits}-bit values and are scaled from these")
        return facts


def failure(path: Path, error: Exception) -> str:
    """Return the reason why an image could not be decoded, from the error that was raised."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {error}"
    if not isinstance(error, UnidentifiedImageError):
        # Pillow's own messages end with the file's name, or are about its content.
        reason = error.strerror if isinstance(error, OSError) else None  # without the path
        return reason or str(error) or type(error).__name__
    with contextlib.suppress(OSError), path.open("rb") as file:
        if kind := foreign_kind(file.read(64)):
            return f"it is {kind}, not {NAMES}"
    return f"damaged, or not {NAMES}"


def _watch(tasks: Iterator[object], total: int) -> None:
    """Wait for the tasks, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    bar = track(tasks, "decoding images", total, console=console, disable=not console.is_terminal)
    for _ in bar:
        pass
