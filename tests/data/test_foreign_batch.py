"""Batches of a user's loaders: what is accepted, and what is refused in which words."""

import pytest
import torch

from kd.data.foreign_batch import Conversion, ModuleHooks
from kd.errors import UserError

IMAGES = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8)
LABELS = torch.tensor([0, 2, 1, 2])


def convert(content, split="train", normalisation=None):
    conversion = Conversion("mine", split, 0, 3, normalisation, ModuleHooks(None))
    return conversion(content, epoch=0, number=0)


def test_floats_are_taken_as_they_are():
    images, labels = convert([IMAGES.double(), LABELS.int()])
    assert images.equal(IMAGES.float())
    assert labels.equal(LABELS)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_uint8_is_normalised():
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    images, _ = convert((IMAGES, LABELS), normalisation=(mean, std))
    centre, scale = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (mean, std))
    torch.testing.assert_close(images.double(), (IMAGES / 255 - centre) / scale)


def test_a_mean_of_other_channels():
    for images in (IMAGES, IMAGES.float()):
        with pytest.raises(UserError, match="mean and std have 1 values, the images 3 channels"):
            convert((images, LABELS), normalisation=([0.5], [0.5]))


def test_training_targets_may_be_probabilities():
    probabilities = torch.eye(3)[LABELS]
    assert convert((IMAGES, probabilities))[1].equal(probabilities)
    with pytest.raises(UserError, match=r"the test loader has as target float32 \[4, 3\]"):
        convert((IMAGES, probabilities), "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"image": IMAGES, "label": LABELS},
            r"yields a dict with image, label; .*\(input, target\)",
        ),
        ((IMAGES, LABELS, LABELS), r"yields \(uint8 \[4, 3, 5, 7\], int64 \[4\], int64 \[4\]\)"),
        (IMAGES, r"yields uint8 \[4, 3, 5, 7\]"),
        ((IMAGES[0], LABELS), r"has as input uint8 \[3, 5, 7\]; expected images"),
        ((IMAGES.int(), LABELS), r"has as input int32 \[4, 3, 5, 7\]"),
        ((IMAGES, LABELS.float()), r"has as target float32 \[4\]; expected class numbers \[B\] or"),
        ((IMAGES, [0, 1]), r"has as target \(int, int\)"),
        ((IMAGES, LABELS + 1), "train labels from 1 to 3 with num_classes=3"),
        ((IMAGES, LABELS - 1), "train labels from -1 to 1"),
    ],
)
def test_other_batches_are_refused(content, message):
    with pytest.raises(UserError, match=message):
        convert(content)
