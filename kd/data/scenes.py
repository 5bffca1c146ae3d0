"""Scenes composed of digits on a black square, with the exact box of each digit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

INK = 48  # grey value; fainter pixels of a scaled digit are erased, and the box holds all others
_TRIES = 30  # to place a digit before it is left out

Image = NDArray[np.uint8]


class SceneSettings(NamedTuple):
    """How scenes are composed.

    Attributes:
        size: height and width of a scene in pixels.
        digits: least and largest number of digits of a scene.
        digit_size: least and largest side of the square that a digit is scaled to.
        overlap: largest share of the smaller of two boxes that the other one covers.
    """

    size: int
    digits: tuple[int, int]
    digit_size: tuple[int, int]
    overlap: float


def compose_scenes(
    digits: Image, labels: NDArray[np.int64], count: int, settings: SceneSettings, seed: list[int]
) -> tuple[Image, list[NDArray[np.float32]]]:
    """Compose scenes as a pure function of the arguments.

    Args:
        digits: [D, H, W], on black.
        labels: [D].
        count: number of scenes N.
        settings: of every scene.
        seed: of the draws.

    Returns:
        Scenes [N, 1, size, size], and rows (class, x1, y1, x2, y2) [m, 5] of each. A digit for
        which no place is found in 30 draws is left out.
    """
    random = np.random.default_rng(seed)
    scenes = np.zeros((count, 1, settings.size, settings.size), dtype=np.uint8)
    rows = [_compose(scene[0], digits, labels, settings, random) for scene in scenes]
    return scenes, rows


def _compose(
    scene: Image,
    digits: Image,
    labels: NDArray[np.int64],
    settings: SceneSettings,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw digits into one scene [size, size]; return their rows [m, 5]."""
    rows: list[list[float]] = []
    for _ in range(random.integers(settings.digits[0], settings.digits[1] + 1)):
        chosen = int(random.integers(len(digits)))
        least, largest = settings.digit_size
        patch = inked(digits[chosen], int(random.integers(least, largest + 1)))
        height, width = patch.shape
        for _ in range(_TRIES):
            y = int(random.integers(0, settings.size - height + 1))
            x = int(random.integers(0, settings.size - width + 1))
            box = [x, y, x + width, y + height]
            if all(covered(box, row[1:]) <= settings.overlap for row in rows):
                place = scene[y : y + height, x : x + width]
                np.maximum(place, patch, out=place)
                rows.append([float(labels[chosen]), *box])
                break
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


def inked(digit: Image, side: int) -> Image:
    """Scale a digit [H, W] to side × side, erase what is faint, and cut to the ink.

    Example:
        >>> inked(np.pad(np.full((2, 2), 255, np.uint8), 1), 4).shape
        (2, 2)
    """
    from PIL import Image as Pillow

    scaled = Pillow.fromarray(digit).resize((side, side), Pillow.Resampling.BILINEAR)
    pixels = np.array(scaled)
    pixels[pixels < INK] = 0
    y, x = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
    return pixels if not len(y) else pixels[y[0] : y[-1] + 1, x[0] : x[-1] + 1]


def covered(first: list[int], second: list[float]) -> float:
    """Share of the smaller of two boxes (x1, y1, x2, y2) that lies in the other.

    Example:
        >>> covered([0, 0, 4, 4], [2.0, 0.0, 10.0, 4.0])
        0.5
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(0.0, width) * max(0.0, height) / min(areas)
