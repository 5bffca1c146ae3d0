"""Decoding of JPEG and PNG files into one uint8 tensor."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)
CHUNK = 64  # files a task: scheduling a single 32x32 image costs as much as decoding it


def decode(path: Path, size: int, grayscale: bool) -> bytes:
    """Decode one image to bytes [C, size, size].

    The shorter side is scaled to `size` (bilinear with antialiasing), and the centre is cropped.
    Large JPEGs are decoded at the smallest scale that has twice the pixels needed. Transparency is
    dropped, 16-bit grey becomes 8-bit, and EXIF orientation is ignored, as in torchvision.

    Args:
        path: the file.
        size: height and width of the result in pixels.
        grayscale: one channel instead of three.
    """
    from PIL import Image, ImageOps

    mode = "L" if grayscale else "RGB"
    with Image.open(path) as file:
        file.draft(mode, (2 * size, 2 * size))
        image: Image.Image = file
        if image.mode.startswith("I"):  # convert() would clip 16 bits to white
            image = image.convert("I").point(lambda level: level / 256).convert("L")
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return b"".join(channel.tobytes() for channel in image.split())


def decode_all(
    paths: Sequence[Path], size: int, grayscale: bool, workers: int | None
) -> tuple[Tensor, dict[int, str]]:
    """Decode many images in threads.

    Args:
        paths: N files.
        size: height and width of the results in pixels.
        grayscale: one channel instead of three.
        workers: number of threads; None: one for each core.

    Returns:
        Images uint8 [N, C, size, size], where failed ones are black, and the reason of each failure
        by position.
    """
    images = torch.zeros(len(paths), 1 if grayscale else 3, size, size, dtype=torch.uint8)
    # Bytes, not tensor operations: between small ones torch's own threads spin and take the cores.
    buffer, step = images.view(-1).numpy().data, images[0].numel()
    failed: dict[int, str] = {}

    def task(chunk: range) -> None:
        for number in chunk:
            try:
                pixels = decode(paths[number], size, grayscale)
            except Exception as error:  # damaged files raise nearly anything, SyntaxError included
                failed[number] = f"{type(error).__name__}: {error}"
            else:
                buffer[number * step : (number + 1) * step] = pixels

    log.info("decoding %d images, once", len(paths))
    chunks = [range(i, min(i + CHUNK, len(paths))) for i in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(workers or os.cpu_count()) as threads:
        _watch(threads.map(task, chunks), len(chunks))
    return images, failed


def _watch(tasks: Iterator[None], total: int) -> None:
    """Wait for the tasks, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    bar = track(tasks, "decoding images", total, console=console, disable=not console.is_terminal)
    for _ in bar:
        pass
