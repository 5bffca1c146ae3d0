"""Accuracy on corrupted test images: noise, blur, contrast and JPEG at three strengths."""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kd.data.counter_rng import stream
from kd.deploy.evaluation.predictions import check_logits
from kd.errors import UserError

Predict = Callable[[Tensor], Tensor]

STRENGTHS = (1, 2, 3)
# Severities 1, 3 and 5 of CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019,
# https://arxiv.org/abs/1903.12261; values from make_cifar_c.py of github.com/hendrycks/robustness).
SEVERITIES: dict[str, tuple[float, float, float]] = {
    "noise": (0.04, 0.08, 0.10),  # standard deviation on the 0..1 scale
    "blur": (0.4, 0.7, 1.0),  # standard deviation of the Gaussian, in pixels of a 32 x 32 image
    "contrast": (0.75, 0.4, 0.15),  # factor of the distance from the image's mean
    "jpeg": (80, 58, 40),  # quality
}
_SIDE = 32  # pixels of the images that the severities are of
_CHUNK = 512  # images whose noise is drawn together, whatever the net's batch


@dataclass(frozen=True)
class Robustness:
    """Accuracy of a net on corrupted images.

    Attributes:
        accuracy: fraction of images classified correctly, by corruption and strength 1..3; None
            where the corruption is not defined for images of that number of channels.
        mean: of all that are defined, each corruption counting alike.
    """

    accuracy: dict[tuple[str, int], float | None]

    @property
    def mean(self) -> float:
        defined = [value for value in self.accuracy.values() if value is not None]
        return sum(defined) / len(defined)

    def figures(self) -> dict[str, Any]:
        """Return the figures under the keys of `kd.deploy.evaluation.keys`."""
        by_key = {f"acc/{kind}/{k}": value for (kind, k), value in self.accuracy.items()}
        return by_key | {"acc/corrupted": self.mean}


def robustness(
    nets: Mapping[str, Predict],
    images: Tensor,
    targets: Tensor,
    seed: int = 0,
    batch_size: int = _CHUNK,
) -> dict[str, Robustness]:
    """Test nets on the same corrupted images.

    Args:
        nets: by name, functions of uint8 images [B, C, H, W] that return logits [B, K]: a loaded
            student, a `LiveTeacher`, or the `logits` of a model file as tensors.
        images: of the test set, uint8 [N, C, H, W].
        targets: labels [N].
        seed: of the noise; two calls with the same seed give the same figures.
        batch_size: of the nets' forward passes; the corrupted images do not depend on it.

    Returns:
        The accuracies, by name of the net.

    Raises:
        UserError: the images are not uint8, or logits are not finite.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise UserError(f"corruptions are of uint8 images [N, C, H, W], got {images.dtype}")
    accuracy: dict[str, dict[tuple[str, int], float | None]] = {name: {} for name in nets}
    for kind in SEVERITIES:
        for strength in STRENGTHS:
            if is_defined(kind, images.shape[1]):
                parts = _corrupted(images, targets, kind, strength, seed)
                right = _count_right(nets, parts, batch_size)
            else:
                right = {}
            for name in nets:
                accuracy[name][kind, strength] = right[name] / len(images) if right else None
    return {name: Robustness(values) for name, values in accuracy.items()}


def _corrupted(
    images: Tensor, targets: Tensor, kind: str, strength: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield corrupted images [b, C, H, W] with their labels [b], on the CPU."""
    pairs = zip(images.split(_CHUNK), targets.split(_CHUNK), strict=True)
    for number, (chunk, labels) in enumerate(pairs):
        yield corrupt(chunk.cpu(), kind, strength, stream(seed, number)), labels.cpu()


@torch.no_grad()
def _count_right(
    nets: Mapping[str, Predict], parts: Iterable[tuple[Tensor, Tensor]], batch_size: int
) -> dict[str, int]:
    """Return the number of images that each net classifies correctly."""
    right = dict.fromkeys(nets, 0)
    for corrupted, labels in parts:
        for name, predict in nets.items():
            logits = torch.cat([predict(batch).cpu() for batch in corrupted.split(batch_size)])
            check_logits(logits, labels)
            right[name] += int((logits.argmax(1) == labels).sum())
    return right


def is_defined(kind: str, channels: int) -> bool:
    """Whether a corruption is defined for images of so many channels.

    JPEG and the grey value that contrast is about exist for one channel (grey) and three (RGB).
    """
    return kind in ("noise", "blur") or channels in (1, 3)


def corrupt(images: Tensor, kind: str, strength: int, seed: int = 0) -> Tensor:
    """Corrupt images by `torchvision.transforms.v2`, and by Pillow for JPEG.

    - `noise`: Gaussian, independent for each pixel and channel, clipped to 0..255.
    - `blur`: Gaussian with reflected borders.
    - `contrast`: distances from the image's mean grey value are reduced.
    - `jpeg`: compressed and decompressed at a quality, with subsampled colours.

    The severities are those of 32 x 32 images. Noise, contrast and JPEG act on pixel values and on
    blocks of 8 x 8 pixels, and are the same for all sizes. The blur's standard deviation grows with
    the shorter side above 32 pixels, and is not reduced below, where a Gaussian of less than 0.4
    pixels would change nothing: an 8 x 8 image is blurred by 0.4, 0.7 and 1 of its own pixels,
    which is four times as much of its side as at 32 x 32.

    Args:
        images: uint8 [B, C, H, W], on the CPU.
        kind: a key of `SEVERITIES`.
        strength: 1, 2 or 3.
        seed: of the noise.

    Returns:
        uint8 [B, C, H, W].

    Raises:
        UserError: an unknown kind or strength.
    """
    if kind not in SEVERITIES or strength not in STRENGTHS:
        raise UserError(f"no corruption {kind}/{strength}; valid: {', '.join(SEVERITIES)}, 1 to 3")
    severity = SEVERITIES[kind][strength - 1]
    if kind == "noise":
        return _noise(images, severity, seed)
    if kind == "blur":
        return _blur(images, severity)
    if kind == "contrast":
        return F.adjust_contrast(images, severity)
    return torch.stack([_jpeg(image, int(severity)) for image in images])


def _noise(images: Tensor, sigma: float, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # As floats: on uint8, torchvision rounds the noise towards 0, before version 0.24 it
        # refuses.
        noisy = F.gaussian_noise(images.float() / 255, sigma=sigma)
    return noisy.mul(255).round().to(torch.uint8)


def _blur(images: Tensor, sigma: float) -> Tensor:
    side = min(images.shape[2:])
    sigma = sigma * max(side, _SIDE) / _SIDE
    # A radius of 4 sigma, as skimage has it; reflection needs one that is less than the side.
    radius = min(math.ceil(4 * sigma), side - 1)
    return F.gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma])


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """Compress and decompress one image [C, H, W]."""
    # By Pillow, as CIFAR-10-C: torchvision deprecates its own codec since version 0.29.
    content = io.BytesIO()
    pixels = image.squeeze(0) if len(image) == 1 else image.permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(content, "JPEG", quality=quality)
    decoded = torch.from_numpy(np.array(Image.open(content)))
    return decoded.view_as(image) if len(image) == 1 else decoded.permute(2, 0, 1)
