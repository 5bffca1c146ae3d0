"""Search for run folders: what counts as a run, and folders that do not exist."""

import pytest
from run_folders import write_run, write_sweep

from kd.errors import UserError
from kd.reports.find import check_finished, find_runs


def test_runs_are_found_at_any_depth_and_listed_once(tmp_path):
    write_run(tmp_path / "a" / "b", 0.9)
    write_run(tmp_path / "c")
    found = find_runs([tmp_path, tmp_path])
    assert [run.folder.name for run in found.runs] == ["b"]
    assert [excluded.folder.name for excluded in found.excluded] == ["c"]


def test_teacher_runs_are_counted_but_not_compared(tmp_path):
    write_sweep(tmp_path, ce=[0.9])
    write_run(tmp_path / "teachers" / "resnet20-digits-1", 0.99, method="ce", student="resnet20")
    found = find_runs([tmp_path])
    assert (len(found.runs), found.teachers) == (1, 1)


def test_a_missing_folder_is_named_with_a_similar_one(tmp_path):
    (tmp_path / "sweep").mkdir()
    with pytest.raises(UserError, match=r"swep does not exist; in .* did you mean 'sweep'\?"):
        find_runs([tmp_path / "swep"])
    with pytest.raises(UserError, match=r"no run below .*: a run folder contains result.json or"):
        find_runs([tmp_path / "sweep"])


def test_a_report_needs_a_finished_run_or_trial(tmp_path):
    write_run(tmp_path / "a" / "running")
    with pytest.raises(UserError, match=r"no finished run below .*: 1 unfinished; the first, "):
        check_finished(find_runs([tmp_path]), [tmp_path])
    write_run(tmp_path / "trial_0000", 0.8, status="untested")
    check_finished(find_runs([tmp_path]), [tmp_path])
