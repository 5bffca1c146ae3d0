"""Channel widths."""

import pytest

from kd.models.sizing import scaled


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_width_that_is_not_positive_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width must be > 0, got"):
        scaled(16, width)


def test_widths_are_rounded_half_up_to_positive_multiples() -> None:
    assert scaled(25, 0.5) == 13
    assert scaled(16, 0.01) == 1
    assert scaled(20, 1.0, 8) == 24
    assert scaled(240, 0.01, 12) == 12
