"""Safetensors files with checksums: caches and weights."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file

from kd.io import tensors as tensor_file
from kd.io.tensors import Stored, first_writable, is_intact, safetensors_bytes


@pytest.fixture
def stored():
    return Stored({"a": torch.arange(5), "empty": torch.zeros(0, 3)}, ["note"])


def test_a_cache_file_is_read_for_its_own_key_only(stored, tmp_path):
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, "key", stored)
    assert tensor_file.read(path, "other") is None
    assert tensor_file.read(tmp_path / "none", "key") is None
    found = tensor_file.read(path, "key")
    assert found is not None
    assert found.notes == ["note"]
    assert torch.equal(found.tensors["a"], torch.arange(5))
    assert found.tensors["empty"].shape == (0, 3)


def test_single_tensors_are_read_by_name(stored, tmp_path):
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, "key", stored)
    found = tensor_file.read(path, "key", ["a"])
    assert found is not None
    assert list(found.tensors) == ["a"]


def test_a_damaged_cache_file_is_reported_and_not_read(stored, tmp_path, caplog):
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, "key", stored)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert tensor_file.read(path, "key") is None
    assert "a checksum differs" in caplog.text
    path.write_bytes(content[:20])
    assert tensor_file.read(path, "key") is None
    assert caplog.text.count("computing it again") == 2


def test_writing_removes_what_a_killed_writer_of_the_same_file_left(stored, tmp_path):
    left, other = tmp_path / ".x.safetensors.1.tmp", tmp_path / ".y.safetensors.1.tmp"
    left.touch()
    other.touch()
    tensor_file.write(tmp_path / "x.safetensors", "key", stored)
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "x.safetensors"]


def test_an_error_of_safetensors_is_an_error_of_the_system(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def fail(*_):
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        tensor_file.write(tmp_path / "x.safetensors", "key", Stored({}, []))
    assert list(tmp_path.iterdir()) == []


def test_weights_carry_checksums_and_metadata(tmp_path):
    weights = {"w": torch.randn(3, 2).t(), "b": torch.zeros(2, dtype=torch.bfloat16)}
    file = tmp_path / "student.safetensors"
    file.write_bytes(safetensors_bytes(weights, {"class_names": "a b"}))
    found = load_file(file)
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert is_intact(file, found)
    found["w"][0, 0] += 1
    assert not is_intact(file, found)
    assert b'"class_names":"a b"' in file.read_bytes()


def test_weights_of_other_tools_count_as_intact(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert is_intact(tmp_path / "x.safetensors", {"w": torch.ones(2)})


def test_weights_are_a_plain_safetensors_file():
    assert load(safetensors_bytes({"w": torch.ones(2)}))["w"].tolist() == [1, 1]


def test_the_first_writable_place_is_locked(tmp_path):
    (tmp_path / "file").touch()
    places = [tmp_path / "file" / "x", tmp_path / "new" / "x"]
    with first_writable(places) as place:
        assert place == places[1]
        assert places[1].parent.is_dir()
    with first_writable(places[:1]) as place:
        assert place is None


def test_an_error_at_the_place_is_not_taken_for_an_unwritable_one(tmp_path):
    with pytest.raises(OSError, match="mine"), first_writable([tmp_path / "x", tmp_path / "y"]):
        raise OSError(os.EX_IOERR, "mine")


def test_equal_weights_make_equal_files(tmp_path):
    """The metadata stand in order of key, although safetensors hashes them at random."""
    weights = {"b": torch.rand(3), "a": torch.rand(2)}
    metadata = dict.fromkeys("gxcawq", "é" * 3)
    content = safetensors_bytes(weights, metadata)
    size = int.from_bytes(content[:8], "little")
    names = list(json.loads(content[8 : 8 + size])["__metadata__"])
    assert (names, size % 8) == (sorted([*metadata, "checksums"]), 0)
    (tmp_path / "w").write_bytes(content)
    with safe_open(tmp_path / "w", "pt") as file:
        assert {name: file.metadata()[name] for name in metadata} == metadata
        assert all(torch.equal(file.get_tensor(name), weights[name]) for name in weights)
