"""Rule for the incomplete last batch of a training epoch."""

import logging

log = logging.getLogger(__name__)
MAX_DROPPED = 0.05  # fraction of the images; a batch fewer an epoch is no loss below it
MIN_BATCH = 2  # of each device: batch normalisation has no statistics of a single image


def drops_last(
    samples: int, batch_size: int, world_size: int, name: str, chosen: bool | None = None
) -> bool:
    """Return whether an epoch leaves the incomplete last batch out.

    It does so while that is at most 5 % of the images: all batches then have one size, and other
    images are left out in each epoch. Of 189 images in batches of 128 it would be a third. A last
    batch that the devices cannot share evenly, or with a single image for one of them, is left out
    as well, with a warning.

    Args:
        samples: training images.
        batch_size: over all devices.
        world_size: number of devices.
        name: of the data.
        chosen: by the user, which holds; None: not.

    Example:
        >>> drops_last(1293, 64, 1, "digits"), drops_last(189, 128, 1, "pets")
        (True, False)
    """
    if chosen is not None:
        return chosen
    last = samples % batch_size
    if samples < batch_size or last <= MAX_DROPPED * samples:
        return True  # a single batch is never left out
    if last % world_size == 0 and last // world_size >= MIN_BATCH:
        return False
    log.warning(
        "data %r: %d of %d training images are left out of each epoch: data.batch_size=%d leaves a "
        "batch of %d for %d device(s); another data.batch_size would use them",
        *(name, last, samples, batch_size, last, world_size),
    )
    return True
