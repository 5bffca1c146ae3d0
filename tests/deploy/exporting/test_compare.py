"""Comparison of a file with its student."""

import numpy as np
import pytest
import torch
from torch import nn

from kd.deploy.exporting.compare import compare
from kd.deploy.runtimes.base import ModelFile


class Shifted(ModelFile):
    """Logits of pixels 0 and 1, with `shift` added to the first one."""

    description = None

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def logits(self, images):
        found = images.reshape(len(images), -1).astype(np.float32)
        found[:, 0] += self.shift
        return found


class Pixels(nn.Module):
    def forward(self, images):
        return images.flatten(1).float()


# Four images of two pixels, which are their logits: classes 0, 0, 1, 1
IMAGES = torch.tensor([[3, 1], [2, 1], [0, 1], [0, 9]], dtype=torch.uint8).reshape(4, 1, 1, 2)
TARGETS = torch.tensor([0, 0, 1, 0])


def compared(shift, precision="fp32"):
    return compare(Pixels(), Shifted(shift), IMAGES, TARGETS, precision)  # type: ignore[arg-type]


def test_figures_of_a_hand_made_case():
    found = compared(-1.5, "int8")  # the second image becomes class 1
    assert (found.student_accuracy, found.accuracy, found.agreement) == (0.75, 0.5, 0.75)
    assert (found.images, found.difference, found.drop) == (4, 1.5, 25.0)
    assert "loses 25.00 points of test accuracy (0.7500 → 0.5000)" in found.problem(24.9)
    assert not found.problem(25)


@pytest.mark.parametrize(
    ("precision", "within", "beyond"), [("fp32", 8e-4, 1e-3), ("fp16", 0.17, 0.19)]
)
def test_tolerance_grows_with_the_largest_logit(precision, within, beyond):
    assert not compared(within, precision).problem(0)
    assert "more than" in compared(beyond, precision).problem(100)


def test_logits_that_are_not_finite_are_no_match():
    assert "not finite" in compared(float("nan")).problem(100)
    assert "not finite" in compared(float("inf"), "int8").problem(100)
