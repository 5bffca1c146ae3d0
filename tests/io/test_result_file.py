"""result.json holds declared keys of declared types, and is read in every format."""

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from support import configured, present

import kd
from kd.io.result_file import (
    FORMAT,
    declaration,
    declared_keys,
    markdown_table,
    read_result,
    write_result,
)
from kd.training.run import run

README = Path(kd.__file__).parent / "io" / "README.md"


def fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON has a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, arguments[1]) for v in value.values())
    return type(value) is kind or (kind is NoneType and value is None)


RUNS = {
    "kd": ["method=kd"],
    "labels": ["method=ce"],
    "ensemble": ["teacher.members=[resnet8,mlp800]"],
    "peers": ["mode=online"],
    "branches": ["mode=one"],
    "exits": ["mode=byot", "experiment=byot"],
    "moving average": ["mode=mean_teacher", "experiment=mean_teacher"],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_writes_declared_keys_of_declared_types(name, output, tmp_path):
    teacher = {"kd": ("teacher=resnet8",), "ensemble": ("teacher=ensemble",)}.get(name, ())
    cfg = configured(tmp_path, output, *RUNS[name], "trainer.max_epochs=1", teacher=teacher)
    returned = run(cfg, tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert returned == {k: v for k, v in written.items() if k != "checksum"}
    assert written["format"] == FORMAT
    for key, value in written.items():
        declared = declaration(key)
        assert declared is not None, f"{key} is not declared"
        assert fits(value, declared[0]), f"{key}={value!r} is no {declared[0]}"


def test_a_failed_run_writes_declared_keys(output, tmp_path):
    cfg = configured(tmp_path, output, "method.temperature=-1")
    with pytest.raises(ValueError, match="temperature"):
        run(cfg, tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["status"] == "failed"
    assert all(fits(value, present(declaration(key))[0]) for key, value in written.items())


def test_the_stable_keys_are_declared():
    """Other tools read these."""
    stable = """status method teacher student data mode seed config_hash git_commit test/acc val/acc
        teacher/test/acc test/agreement test/ece test/nll student/params teacher/params compression
        epochs fit_seconds images_per_second teacher_forwards versions"""
    assert set(stable.split()) <= set(declared_keys())


def test_keys_of_modes_match_their_pattern_and_others_none():
    assert declaration("branch2/test/nll") == declaration("PEER/test/nll")
    assert declaration("test/exit1/acc_last") == declaration("test/EXIT/acc_last")
    assert declaration("test/accuracy") is None
    assert declaration("teacher/answers") is None


def test_the_readme_explains_every_key():
    text = README.read_text()
    begin, end = text.index("<!-- keys:"), text.index("<!-- end of keys -->")
    assert text[begin:end].partition("-->\n")[2].strip() == markdown_table()


def test_results_of_format_1_are_read(tmp_path):
    """Written before the key `format` existed."""
    old = {"status": "completed", "teacher/answers": "cached", "test/acc": 0.9}
    (tmp_path / "result.json").write_text(json.dumps(old))
    read = read_result(tmp_path)
    assert read == {
        **{"format": 1, "status": "completed", "teacher/outputs": "cached", "test/acc": 0.9}
    }
    write_result(tmp_path, read)
    assert json.loads((tmp_path / "result.json").read_text())["format"] == FORMAT
    assert present(read_result(tmp_path))["teacher/outputs"] == "cached"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"status": "failed", "checksum": "0"}'])
def test_a_damaged_result_is_not_read(content, tmp_path):
    (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None
