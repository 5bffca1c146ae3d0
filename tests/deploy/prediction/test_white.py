"""The value that is white in images with more than 8 bits."""

import pytest

from kd.data.pixels import FLOAT, INTEGER, Peak, Scale
from kd.deploy.prediction.white import Peaks, scale_with
from kd.errors import UserError


def test_the_largest_value_of_each_kind_decides():
    peaks = Peaks()
    peaks.add([None, Peak(INTEGER, 4000), Peak(FLOAT, 0.5)])
    assert (peaks.count, peaks.scale(), peaks.described()) == (2, Scale(12, 1.0), "1 and 4095")
    peaks.add([Peak(INTEGER, 9), Peak(FLOAT, 200.0), None])
    assert (peaks.count, peaks.scale(), peaks.described()) == (4, Scale(12, 255.0), "255 and 4095")


def test_a_given_white_must_be_one_of_a_camera():
    assert [scale_with(2**bits - 1).bits for bits in (8, 10, 12, 14, 16)] == [8, 10, 12, 14, 16]
    with pytest.raises(UserError, match=r"white=300: must be one of 1, 255, 1023, 4095, 16383"):
        scale_with(300)
