"""Figure of the difference of two confusion matrices: the numbers, and any number of classes."""

from functools import partial

import numpy as np
import pytest

from kd.plots.confusion import confusion_difference
from kd.plots.figure import render


def test_the_difference_is_in_percentage_points_of_each_label():
    teacher = np.array([[3.0, 1.0], [0.0, 4.0]])
    student = np.array([[6.0, 2.0], [4.0, 4.0]])  # of another number of images
    draw = confusion_difference(teacher, student, ["a", "b"]).draw
    assert isinstance(draw, partial)
    difference, _ = draw.args
    assert difference.tolist() == [[0, 0], [50, -50]]


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_any_number_of_classes_can_be_drawn(classes):
    teacher, student = np.random.default_rng(0).integers(0, 9, (2, classes, classes)).astype(float)
    names = [f"class {n}" for n in range(classes)]
    pixels = render(confusion_difference(teacher, student, names).draw)
    assert pixels.std() > 5  # not blank


def test_equal_matrices_can_be_drawn():
    counts = np.eye(3)
    assert render(confusion_difference(counts, counts, ["a", "b", "c"]).draw).std() > 5
