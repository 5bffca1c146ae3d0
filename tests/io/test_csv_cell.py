"""Cells of a CSV file."""

import pytest

from kd.io.csv_cell import csv_cell


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@a", " =1", "\t=1", "＝1"])
def test_no_text_is_a_formula(text):
    cell = str(csv_cell(text))
    assert cell[0] in "'\\"
    assert "\t" not in cell


def test_numbers_and_other_texts_are_kept():
    assert [csv_cell(each) for each in (-0.5, None, "a=b")] == [-0.5, None, "a=b"]
