"""Warnings about validation and test sets: missing classes, images that are trained on as well."""

import hashlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kd.data.arrays import Arrays

log = logging.getLogger(__name__)
_SAMPLE = 1024  # bytes of an image that are compared first: 60 000 x 3 kB take 0.2 s
_NAMED = 2
_EFFECTS = {
    ("train", "test"): "the test figures are partly those of memorised images",
    ("val", "test"): "the epoch is chosen by images that are tested as well",
    ("train", "val"): "the epoch is chosen by images that are trained on as well",
}


def warn_of_shared_images(name: str, arrays: Arrays, image_name: Callable[[str, int], str]) -> None:
    """Warn of equal images in two splits, with their number and two examples.

    Args:
        name: of the data.
        arrays: the images.
        image_name: returns the name of an image from its split and row.
    """
    images = {"train": arrays.train_inputs, "val": arrays.val_inputs, "test": arrays.test_inputs}
    labels = {"train": arrays.train_targets, "val": arrays.val_targets, "test": arrays.test_targets}
    for (first, second), effect in _EFFECTS.items():
        one, other = images[first], images[second]
        pairs = [] if one is None or other is None else list(shared_rows(one, other))
        if not pairs or other is None:
            continue
        examples = ", ".join(
            f"{image_name(first, a)} = {image_name(second, b)}" for a, b in pairs[:_NAMED]
        )
        differing = sum(not torch.equal(labels[first][a], labels[second][b]) for a, b in pairs)  # type: ignore[index]
        log.warning(
            "data %r: %d of %d %s images are %s images as well, pixel for pixel%s (%s%s): %s",
            *(name, len(pairs), len(other), second, first),
            f", {differing} of them with another label" if differing else "",
            *(examples, ", …" if len(pairs) > _NAMED else "", effect),
        )


def shared_rows(first: Tensor, second: Tensor) -> Iterator[tuple[int, int]]:
    """Yield (row of `first`, row of `second`) for every image of `second` that `first` has.

    Args:
        first: uint8 [N, C, H, W].
        second: uint8 [M, C, H, W].

    Example:
        >>> images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
        >>> list(shared_rows(images, images[[3, 3, 1]]))
        [(3, 0), (3, 1), (1, 2)]
    """
    ours, theirs = _samples(first), _samples(second)
    common = set(ours) & set(theirs)
    known: dict[bytes, int] = {}
    for row, sample in enumerate(ours):
        if sample in common:
            known.setdefault(_digest(first[row]), row)
    for row, sample in enumerate(theirs):
        if sample in common and (match := known.get(_digest(second[row]))) is not None:
            yield match, row


def _samples(images: Tensor) -> list[bytes]:
    """At most `_SAMPLE` bytes of each image, spread over it."""
    flat = images.flatten(1)
    spread = flat[:, :: -(-flat.shape[1] // _SAMPLE)].cpu().contiguous().numpy()
    found: list[bytes] = spread.view(f"V{spread.shape[1]}").ravel().tolist()
    return found


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.cpu().contiguous().numpy().data, digest_size=16).digest()


def warn_of_missing_classes(name: str, class_names: list[str], targets: dict[str, Tensor]) -> None:
    """Warn of classes without an image in an evaluated split.

    Args:
        name: of the data.
        class_names: K.
        targets: labels by split, `val` or `test`.
    """
    effects = {
        "val": "the epoch is chosen without them",
        "test": "their entries of test/acc_per_class are null, and test/acc is about the others",
    }
    for split, labels in targets.items():
        counts = torch.bincount(labels.cpu(), minlength=len(class_names)).tolist()
        missing = [name for name, count in zip(class_names, counts, strict=True) if not count]
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
            log.warning(
                "data %r: %d of %d classes have no %s image (%s): %s",
                *(name, len(missing), len(class_names), split, shown, effects[split]),
            )
