"""The value that is white in images with more than 8 bits."""

from collections.abc import Iterable

from kd.data.pixels import FLOAT, Peak, Scale, scale_of
from kd.errors import UserError

_BITS = {2**bits - 1: bits for bits in (8, 10, 12, 14, 16)}


class Peaks:
    """The largest value of each kind of pixels, of any number of images.

    Attributes:
        count: images with more than 8 bits.

    Example:
        >>> peaks = Peaks()
        >>> peaks.add([None, Peak("16-bit grey", 900), Peak("16-bit grey", 4090)])
        >>> peaks.count, peaks.scale().bits
        (2, 12)
    """

    def __init__(self) -> None:
        self.count = 0
        self._largest: dict[str, Peak] = {}

    def add(self, peaks: Iterable[Peak | None]) -> None:
        """Take in the peaks of some images; None for one of 8 bits."""
        for peak in filter(None, peaks):
            self.count += 1
            known = self._largest.setdefault(peak.kind, peak)
            self._largest[peak.kind] = max(known, peak, key=lambda each: each.value)

    def scale(self) -> Scale:
        """Return the scale that a data set of these images has in training."""
        return scale_of(self._largest.values())

    def described(self) -> str:
        """Return the scale in words, for the kinds of pixels that were found."""
        bits, top = self.scale()
        kinds = {f"{top:g}" if kind == FLOAT else f"{2**bits - 1}" for kind in self._largest}
        return " and ".join(sorted(kinds))


def scale_with(white: float) -> Scale:
    """Return the scale on which a value is white.

    Args:
        white: 255, 1023, 4095, 16383 or 65535 of integers, 1 or 255 of floating point values.

    Raises:
        UserError: another value.

    Example:
        >>> scale_with(4095), scale_with(255)
        (Scale(bits=12, top=1.0), Scale(bits=8, top=255.0))
    """
    if white != 1 and white not in _BITS:
        valid = ", ".join(map(str, [1, *_BITS]))
        raise UserError(f"white={white}: must be one of {valid}, or null")
    return Scale(_BITS.get(int(white), 16), 255.0 if white == 255 else 1.0)
