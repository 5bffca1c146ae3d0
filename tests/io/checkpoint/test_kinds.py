"""A file that holds no weights is refused by its kind, whatever its name, with a remedy."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import save, small_net
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file

from kd.errors import UserError
from kd.io.weights import load_weights

W = small_net(seed=1).state_dict()


def archive(names: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, value in names.items():
            opened.writestr(name, value)
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("weights.pt"))
    return content.getvalue()


def arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, weight=np.ones(2))
    return content.getvalue()


def pickled(content: object) -> bytes:
    saved = io.BytesIO()
    torch.save(content, saved)
    return saved.getvalue()


KINDS: dict[str, tuple[bytes, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\nsize 3\n", "Git LFS.*git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--abc", "git-annex.*git annex get"),
    "html": (b"\n<!DOCTYPE html>\n<html>", "web page .*download the file itself"),
    "xml": (b"<?xml version='1.0'?><Error/>", "XML document"),
    "json": (b'{"architectures": ["ViT"], "hidden": 3}', "JSON file with the keys architectures"),
    "yaml": (b"lr: 0.1\n", "is a text, which begins 'lr: 0.1'"),
    "empty": (b"", r"empty \(0 bytes\)"),
    "zeros": (bytes(700), "nothing but zeros, 700 bytes"),
    "gzip": (gzip.compress(b"x"), "gzip; unpack it first: gunzip -c .* > weights.pt"),
    "bzip2": (b"BZh91AY&SY", "bzip2"),
    "xz": (b"\xfd7zXZ\x00\x00", "with xz"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "zstd"),
    "tar": (tar(), "tar archive; unpack it first: tar xf"),
    "zip": (archive({"model/weights.pt": b"x", "a.txt": b""}), "zip archive of model/weights.pt"),
    "empty zip": (archive({}), "zip archive of nothing|unknown format"),
    "npz": (arrays(), "archive of NumPy arrays; convert it: torch.save.*numpy.load"),
    "npy": (b"\x93NUMPY\x01\x00", "one NumPy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\x00", "HDF5 file, as Keras"),
    "keras": (archive({"model.weights.h5": b""}), "Keras model"),
    "onnx": (b"\x08\x08\x12\x07pytorch", "ONNX model"),
    "saved model": (b"\x08\x01\x12\xa0\x02", "TensorFlow SavedModel"),
    "gguf": (b"GGUF\x03\x00", "GGUF"),
    "tflite": (b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
    "export": (archive({"x/data/weights/weight_0": b""}), "torch.export.load"),
    "png": (b"\x89PNG\r\n\x1a\n", "PNG image"),
    "program": (b"\x7fELF\x02", "a program"),
    "noise": (bytes(range(150, 250)), "unknown format .100 bytes, the first are 96 97"),
    "list": (pickled([1, 2]), "no state dict .found list"),
    "dictionary": (pickled({"lr": 1, "arch": "x"}), "no state dict .found dict .*keys lr, arch"),
    "class": (pickled(io.StringIO), "found _io.StringIO; it names _io.StringIO, which was not run"),
    "half": (pickled(W)[:900], "is damaged or of an unknown format: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_weights_is_named(kind, tmp_path):
    content, message = KINDS[kind]
    for name in ("teacher.pt", "teacher.safetensors"):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"(?s){message}"):
            load_weights(small_net(), file)


def test_every_kind_has_a_message_of_its_own():
    assert len({message for _, message in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x", "x.ckpt"])
def test_safetensors_are_recognised_by_their_content(name, tmp_path):
    (tmp_path / name).write_bytes(safetensors_bytes(W))
    net = small_net()
    load_weights(net, tmp_path / name)
    assert torch.equal(net.get_parameter("4.bias"), W["4.bias"])


def test_state_dict_named_as_safetensors_loads(tmp_path):
    net = small_net()
    load_weights(net, save(tmp_path / "x.safetensors", W))
    assert torch.equal(net.get_parameter("4.bias"), W["4.bias"])


def sharded(folder: Path, outside: str = "") -> None:
    names = sorted(W)
    parts = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for file, keys in parts.items():
        save_file({key: W[key] for key in keys}, folder / file)
    index = {key: outside + file for file, keys in parts.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(
        f'{{"weight_map": {index}}}'.replace("'", '"')
    )


FOLDERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda f: save_file(W, f / "model.safetensors"),
    "bin": lambda f: save(f / "pytorch_model.bin", W),
    "sharded": sharded,
    "one file": lambda f: save(f / "resnet.pth", W),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_hugging_face_load(kind, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    FOLDERS[kind](tmp_path)
    net = small_net()
    load_weights(net, tmp_path)
    assert torch.equal(net.get_parameter("4.bias"), W["4.bias"])


def test_folders_without_one_choice_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no student\.safetensors; name a finished run"):
        load_weights(small_net(), tmp_path)
    for name in ("a.pt", "b.pt"):
        save(tmp_path / name, W)
    with pytest.raises(UserError, match=r"has 2 files; name one: a\.pt, b\.pt"):
        load_weights(small_net(), tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(UserError, match="TensorFlow SavedModel"):
        load_weights(small_net(), tmp_path)


def test_index_does_not_lead_out_of_its_folder(tmp_path):
    sharded(tmp_path, outside="../")
    with pytest.raises(UserError, match=r"names files that are not beside it: \.\./model-1"):
        load_weights(small_net(), tmp_path)


def test_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(UserError, match="no regular file"):
        load_weights(small_net(), tmp_path / "x.pt")


def test_nearest_name_is_offered(tmp_path):
    save(tmp_path / "resnet20.pt", W)
    save(tmp_path / "other.pt", W)
    with pytest.raises(UserError, match=r"did you mean 'resnet20\.pt'\? .* holds: other\.pt, resn"):
        load_weights(small_net(), tmp_path / "resnet21.pt")
