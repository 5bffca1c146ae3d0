"""The table of a compression: which students are best, and what the sheet says."""

import json
from dataclasses import replace

import pytest

from kd.deploy.compression.measured import Measured
from kd.deploy.compression.pareto import best, table, write_sheet
from kd.errors import UserError


def measured(label, drop, size, macs=100):
    return Measured(
        *(label, "runs/a", f"runs/a/{label}.onnx", 0.9 - drop / 100, drop, None, 1, 0.25, macs),
        *(size, size, 1.0, 64.0, False, drop <= 1),
    )


STUDENTS = [
    measured("uncompressed", 0, 1000),
    measured("small", 0.9, 300),
    measured("beaten", 0.95, 400),
    measured("tiny", 1.1, 10, macs=1),
]


def test_the_best_are_those_that_no_other_one_beats_within_the_bound():
    assert [each.label for each in best(STUDENTS)] == ["uncompressed", "small"]
    equal = [STUDENTS[1], replace(STUDENTS[1], label="other")]
    assert best(equal) == equal
    verdicts = [cells[-1] for cells in table(STUDENTS, 1)[1:]]
    assert verdicts == ["Pareto", "Pareto", "beaten", "exceeds 1"]


def test_the_sheet_has_every_student_with_its_file(tmp_path):
    written = write_sheet(STUDENTS, 1, tmp_path, "python -m kd.compress")
    (row,) = (line for line in written[1].read_text().splitlines() if "exceeds 1" in line)
    assert row.startswith("| tiny | 88.90 | +1.10 | – | 1 | 25.0 | 10 |")
    content = json.loads(written[0].read_text())
    assert [each["pareto"] for each in content["students"]] == [True, True, False, False]


def test_a_sheet_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        write_sheet(STUDENTS, 1, tmp_path / "a", "")
