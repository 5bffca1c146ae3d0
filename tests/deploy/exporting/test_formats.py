"""The table of formats and precisions."""

import pytest

from kd.deploy.exporting import formats
from kd.deploy.exporting.formats import FORMATS, check_installed, find_format
from kd.errors import UserError


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("onxx", "fp32", "format=onxx: there is no such format; did you mean 'onnx'?"),
        ("onnx", "int4", "precision=int4: there is no such precision; did you mean 'int8'?"),
        ("torch_export", "int8", "is written in fp32, fp16; int8 is written by format=onnx"),
        ("executorch", "fp16", "executorch is written in fp32; fp16 is written by format=onnx or"),
        (None, "fp32", "format=None: there is no such format"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(name, precision, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        find_format(name, precision)


@pytest.mark.parametrize("name", ["onnx", "openvino", "executorch"])
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"format={name} needs .*pip install -e '.\[{name}\]'"):
        check_installed(name)


def test_a_torch_whose_files_hold_pickles_is_refused(monkeypatch):
    monkeypatch.setattr(formats, "version", lambda _: "2.7.1+cpu")
    with pytest.raises(UserError, match=r"needs torch 2\.9 or later: torch 2\.7\.1"):
        check_installed("torch_export")


def test_files_of_two_formats_have_different_suffixes():
    assert len({each.suffix for each in FORMATS.values()}) == len(FORMATS)
