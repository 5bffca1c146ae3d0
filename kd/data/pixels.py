"""Conversion of opened images of any pixel format to 8-bit grey or colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageFile

INTEGER, COLOUR, FLOAT = "16-bit grey", "16-bit colour", "floating point"
_BITS = (8, 10, 12, 14, 16)  # of cameras and scanners, which write them into 16-bit files


class Peak(NamedTuple):
    """The largest value of an image with more than 8 bits, and its kind of pixels."""

    kind: str
    value: float


class Scale(NamedTuple):
    """Values that become white; a property of a whole data set, since one image may be dark.

    Attributes:
        bits: of integers, white is 2**bits − 1.
        top: of floating point values, white is 1.0 or 255.0.
    """

    bits: int = 16
    top: float = 1.0


def scale_of(peaks: Iterable[Peak]) -> Scale:
    """Return the scale of a data set from the largest values of its images.

    12-bit values in 16-bit files would be nearly black on the scale of 16 bits.

    Example:
        >>> scale_of([Peak(INTEGER, 900), Peak(INTEGER, 4090), Peak(FLOAT, 254.0)])
        Scale(bits=12, top=255.0)
    """
    found = list(peaks)
    integers = [peak.value for peak in found if peak.kind != FLOAT]
    largest = int(max(integers, default=0)) or 65535  # all black: any scale will do
    bits = next(b for b in _BITS if largest < 2**b)
    floats = [peak.value for peak in found if peak.kind == FLOAT]
    return Scale(bits, 1.0 if max(floats, default=0) <= 1 else 255.0)


def deep_colour(image: ImageFile.ImageFile) -> bool:
    """Return whether a file, not loaded yet, has 16 bits in each of several channels."""
    several = image.mode in ("LA", "RGB", "RGBA", "RGBX", "CMYK")
    return several and ";16" in str([tile[3] for tile in image.tile])


def to_8_bit(image: Image.Image, scale: Scale) -> tuple[Image.Image, Peak | None]:
    """Convert grey images of 16 or 32 bits to mode L; others are returned as they are.

    Raises:
        ValueError: the values have no scale that is known.
    """
    if not image.mode.startswith("I") and image.mode != "F":
        return image, None
    values = np.asarray(image)
    if image.mode == "F":
        return _of_floats(values, scale)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"integers from {low} to {high}, and 16-bit images have 0 to 65535")
    return _grey(values >> (scale.bits - 8)), Peak(INTEGER, high)


def colour_peak(image: Image.Image, scale: Scale) -> Peak:
    """Return the largest value of a 16-bit colour image, of which Pillow keeps the high bytes.

    Raises:
        ValueError: the scale has fewer than 16 bits: the low bytes, which are lost, count.
    """
    if scale.bits < 16:
        raise ValueError(
            f"16-bit colour with {scale.bits}-bit values, of which Pillow reads the high bytes "
            "alone: convert the files to 8 bits"
        )
    extrema = image.convert("RGB").getextrema()
    highest = max(int(high) for _, high in extrema)  # type: ignore[misc]
    return Peak(COLOUR, highest << 8 | 255 if highest else 0)


def _of_floats(values: np.ndarray, scale: Scale) -> tuple[Image.Image, Peak]:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and low >= 0 and high <= 255):
        raise ValueError(
            f"floating point values from {low:g} to {high:g}; expected 0 to 1, or 0 to 255"
        )
    levels = np.floor(values.astype(np.float64) * (255 / scale.top) + 0.5)
    return _grey(levels), Peak(FLOAT, high)


def _grey(levels: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
