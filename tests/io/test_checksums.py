"""JSON files with a checksum."""

import json

import pytest

from kd.io.checksums import is_intact, read_intact, with_checksum, write_json

CONTENT = {"test/acc": 0.9, "classes": ("a", "b"), "by_epoch": {1: None}}


def test_what_is_written_is_read_as_json_has_it(tmp_path):
    write_json(tmp_path / "x.json", CONTENT)
    found = read_intact(tmp_path / "x.json") or {}
    del found["checksum"]
    assert found == json.loads(json.dumps(CONTENT))


def test_the_order_of_keys_has_no_influence():
    whole = with_checksum(CONTENT)
    assert is_intact(dict(reversed(whole.items())))


@pytest.mark.parametrize("change", [{"test/acc": 0.91}, {"more": 1}, {"checksum": "00000000"}])
def test_a_change_is_noticed(change):
    assert not is_intact(with_checksum(CONTENT) | change)


def test_writing_again_replaces_the_checksum(tmp_path):
    write_json(tmp_path / "x.json", CONTENT)
    write_json(tmp_path / "x.json", (read_intact(tmp_path / "x.json") or {}) | {"test/acc": 0.5})
    assert (read_intact(tmp_path / "x.json") or {})["test/acc"] == 0.5


def test_content_without_a_checksum_is_accepted(tmp_path):
    (tmp_path / "x.json").write_text('{"test/acc": 0.5}')
    assert read_intact(tmp_path / "x.json") == {"test/acc": 0.5}


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"checksum": "1"}', "\0"])
def test_what_is_no_intact_object_is_none(text, tmp_path):
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    assert read_intact(tmp_path / "x.json") is None
