"""Log line about the splits of an image folder and the files that it leaves out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kd.data.arrays import Arrays
from kd.data.left_out import listed
from kd.data.scan import DAMAGED, Listing

if TYPE_CHECKING:
    from kd.data.image_folder import ImageFolder

log = logging.getLogger(__name__)
NAMED = 10  # damaged images; the rest is counted


def report(
    data: "ImageFolder",
    listing: Listing,
    arrays: Arrays,
    failed: Mapping[str, str],
    facts: Sequence[str],
) -> None:
    """Log one line; nothing if all was as expected.

    Args:
        data: the data module.
        listing: the folder's files.
        arrays: what they were made into.
        failed: reason by path of each image that could not be decoded.
        facts: about the files that could.
    """
    damaged = listing.damaged_with(failed)
    parts = [*_splits(data, listing, arrays), *facts, *_left_out(listing, damaged)]
    if parts:
        level = logging.WARNING if damaged or listing.left_out else logging.INFO
        log.log(level, "data %r: %s: %s", data.name, data.root, "; ".join(parts))


def _splits(data: "ImageFolder", listing: Listing, arrays: Arrays) -> Iterator[str]:
    if "test" in listing.splits:
        return
    tested, rest = len(arrays.test_targets), len(arrays.train_targets)
    where = "no test folder" if listing.splits else "no split folders"
    line = (
        f"{where}: of {tested + rest} images in {len(listing.class_names)} classes, {tested} are "
        f"the test set (data.test_fraction={data.test_fraction:g} of each class, "
        f"data.test_seed={data.test_seed})"
    )
    if "val" not in listing.splits:
        line += f", and data.val_fraction={data.val_fraction:g} of the others validate"
    yield line


def _left_out(listing: Listing, damaged: list[str]) -> Iterator[str]:
    parts = [f"{len(damaged)} damaged ({listed(damaged, NAMED)})"] if damaged else []
    others = listing.left_out.without(DAMAGED)
    parts += [str(others)] if others else []
    if parts:
        yield f"left out: {', '.join(parts)}"
