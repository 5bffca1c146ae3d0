"""JSON and YAML files of strangers: plain values, or one message."""

import json
import time

import pytest
import yaml
from support import within

from kd.errors import UserError
from kd.io.documents import MAX_JSON, read_json, read_yaml, read_yaml_text

PLAIN = {"method": {"name": "kd", "temperature": 4.0, "taps": ["stage1", "stage2"]}, "seed": 0}


def test_plain_values_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(PLAIN))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(PLAIN))
    assert read_json(tmp_path / "a.json") == PLAIN == read_yaml(tmp_path / "a.yaml")
    assert yaml.safe_load(read_yaml_text(tmp_path / "a.yaml")) == PLAIN


@pytest.mark.parametrize("text", ["\ufeffseed: 3\n", "seed: 3\r\n", "# Ünïcode\nseed: 3"])
def test_what_editors_add_is_no_damage(text, tmp_path):
    (tmp_path / "a.yaml").write_bytes(text.encode())
    assert read_yaml(tmp_path / "a.yaml") == {"seed": 3}


def test_a_date_is_a_text(tmp_path):
    (tmp_path / "a.yaml").write_text("name: 2026-99-99")
    assert read_yaml(tmp_path / "a.yaml") == {"name": "2026-99-99"}


BOMB = "a: &a [1]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in
                              zip("abcdefgh", "bcdefghi", strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "anchor"),
        ("a: *b", "alias"),
        ("a: &a [*a]", "anchor"),
        ("a: !!set {b}", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: !!python/object/apply:os.system [exit]", "tag"),
        ("<<: {a: 1}", "<<"),
        ("[" * 100_000, "nesting"),
        ("a: " + "[" * 70 + "]" * 70, "60 levels"),
        (f"a: {'9' * 5000}", "5000 characters"),
        (f"a: {'1:' * 100_000}1", "characters"),
        (f"a: {2**64}", "64 bits"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 1\n b: 2", "line 2"),
        ("a: \x07", "control characters"),
    ],
)
def test_yaml_that_is_more_than_plain_values_is_refused(text, said, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    started = time.monotonic()
    with within(10), pytest.raises(UserError, match=said) as error:
        read_yaml(tmp_path / "a.yaml")
    assert time.monotonic() - started < 2
    assert str(tmp_path / "a.yaml") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "60 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "60 levels"),
        ("9" * 5000, "digits"),
        (str(2**64), "64 bits"),
        ('{"a": 1', "no JSON"),
        ("", "no JSON"),
    ],
)
def test_json_beyond_its_bounds_is_refused(text, said, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_json(tmp_path / "a.json")


def test_a_file_beyond_its_size_is_not_read(tmp_path):
    file = tmp_path / "a.json"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_JSON + 1)
    with pytest.raises(UserError, match="16 MB accepted"):
        read_json(file)
