"""Checkpoints with objects of any class: read as data, and nothing in them runs."""

import argparse
import collections
import functools
import io
import pickle
import pickletools
import struct
import sys
import time
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import Touch, plain_pickle, save, small_net
from omegaconf import OmegaConf

from kd.errors import UserError
from kd.io.checkpoint.read import open_checkpoint
from kd.io.weights import load_weights

W = small_net(seed=1).state_dict()


def quantised(values: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.14 deprecates them
        return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)


BESIDE: dict[str, Any] = {
    "numpy scalar": np.float64(91.2),
    "numpy array of objects": np.array([1, "a", None], dtype=object),
    "namespace": argparse.Namespace(lr=0.1, arch="resnet20"),
    "OmegaConf": OmegaConf.create({"lr": 0.1, "nets": [1, 2]}),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "optimizer": torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]),
    "default dictionary": collections.defaultdict(list, a=[1]),
    "path, set and complex": (Path("x"), {1, 2}, frozenset("a"), 1j, slice(1, 2), range(3)),
    "function and class": [torch.nn.functional.relu, torch.nn.Linear],
    "module": small_net(),
    "simple namespace": types.SimpleNamespace(a=torch.ones(3)),
    "quantised tensor": quantised(torch.ones(3)),
    "sparse tensor": torch.eye(3).to_sparse(),
    "dtype, device, size": (torch.float16, torch.device("cpu"), torch.Size([1, 2])),
}


def loads(file: Path) -> None:
    net = small_net()
    load_weights(net, file)
    assert all(torch.equal(value, W[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("kind", BESIDE)
def test_objects_beside_the_weights_are_no_obstacle(kind, tmp_path):
    content = {"hyper_parameters": {"x": BESIDE[kind]}, "state_dict": W, "best_acc": 3.0}
    for zipped in (True, False):
        for protocol in (2, 5):
            file = tmp_path / f"{zipped}{protocol}.ckpt"
            loads(save(file, content, pickle_protocol=protocol,
                       _use_new_zipfile_serialization=zipped))  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_load(protocol, tmp_path):
    loads(plain_pickle(tmp_path / "a.pkl", {"model": W, "args": argparse.Namespace()}, protocol))
    arrays = {key: value.numpy() for key, value in W.items()}
    loads(plain_pickle(tmp_path / "b.pkl", {"model": arrays}, protocol))


TENSORS = {
    "strided": torch.arange(12.0).view(3, 4).t(),
    "part of a storage": torch.arange(12.0)[3:9:2],
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3.0),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "double": torch.ones(2, dtype=torch.float64),
    "half": torch.ones(2, dtype=torch.float16),
    "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    "int8": torch.ones(2, dtype=torch.int8),
    "bool": torch.tensor([True, False]),
    "complex": torch.ones(2, dtype=torch.complex64),
    "uint16": torch.ones(2, dtype=torch.uint16),
    "float8": torch.ones(2).to(torch.float8_e4m3fn),
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_equal_those_of_torch_load(zipped, tmp_path):
    both = torch.randn(4)
    content = {**TENSORS, "shared": both, "again": both.view(2, 2)}
    if not zipped:  # torch.load itself cannot read them from its old format
        content = {k: v for k, v in content.items() if k not in ("uint16", "float8")}
    save(tmp_path / "x.pt", content, _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "x.pt", weights_only=True)
    found = open_checkpoint(tmp_path / "x.pt").leaves
    assert found.keys() == expected.keys()
    for key, leaf in found.items():
        value = leaf.value.read()  # type: ignore[union-attr]
        assert value.dtype == expected[key].dtype, key
        assert value.shape == expected[key].shape == leaf.value.shape, key  # type: ignore[union-attr]
        same = value.view(torch.uint8) if key == "float8" else value
        assert torch.equal(same, expected[key].detach().view(same.dtype)), key


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*method:FutureWarning")
def test_torchscript_gives_its_weights_and_a_frozen_one_a_message(tmp_path):
    net = small_net(seed=1).eval()
    script = torch.jit.script(net)
    script.save(tmp_path / "script.pt")
    torch.jit.trace(net, torch.zeros(1, 1, 8, 8)).save(tmp_path / "trace.pt")
    for name in ("script.pt", "trace.pt"):
        loads(tmp_path / name)
    torch.jit.freeze(script).save(tmp_path / "frozen.pt")
    with pytest.raises(UserError, match="frozen TorchScript module"):
        load_weights(small_net(), tmp_path / "frozen.pt")


PROOF = "kd_test_proof"


class Attack:
    """Programs for the pickle machine, each of which runs code in `pickle.loads`."""

    def __init__(self, path: Path) -> None:
        text = f"open({str(path)!r}, 'w').close()".encode()
        short = b"\x8c" + bytes([len(text)]) + text
        call = b"cbuiltins\nexec\n"
        self.programs = {
            "REDUCE": b"\x80\x04" + call + short + b"\x85R.",
            "INST": b"\x80\x04(" + short + b"ibuiltins\nexec\n.",
            "OBJ": b"\x80\x04(" + call + short + b"o.",
            "NEWOBJ": b"\x80\x04" + call + short + b"\x85\x81.",
            "NEWOBJ_EX": b"\x80\x04" + call + short + b"\x85}\x92.",
            "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93" + short + b"\x85R.",
            "persistent": b"\x80\x04" + call + short + b"\x85RQ.",
            # An object whose __setstate__ is what BUILD calls
            "BUILD": b"\x80\x04cargparse\nNamespace\n)\x81}\x8c\x0c__setstate__" + call + b"sb"
            + short + b"b.",
            "copyreg": b"\x80\x04ccopyreg\n__newobj__\n" + call + short + b"\x86R.",
            "rebuild": b"\x80\x04ctorch._tensor\n_rebuild_from_type_v2\n(" + call + b"N"
            + short + b"\x85NtR.",
            "import": b"\x80\x04c" + PROOF.encode() + b"\nx\n.",
            "extension": b"\x80\x04\x82\x01.",
        }  # fmt: skip


def in_archive(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/version", b"3\n")
    return path


def in_legacy(path: Path, program: bytes) -> Path:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(each, 2) for each in head) + program)
    return path


@pytest.mark.parametrize("kind", Attack(Path("x")).programs)
def test_nothing_in_a_file_runs(kind, tmp_path, monkeypatch):
    proof = tmp_path / "ran"
    (tmp_path / f"{PROOF}.py").write_text(f"open({str(proof)!r}, 'w').close()\nx = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    program = Attack(proof).programs[kind]
    pickletools.dis(program, out=io.StringIO())  # it is a valid program
    files = [in_archive(tmp_path / "a.pt", program), in_legacy(tmp_path / "b.pt", program)]
    (tmp_path / "c.pkl").write_bytes(program)
    for file in (*files, tmp_path / "c.pkl"):
        with pytest.raises(UserError):
            load_weights(small_net(), file)
    assert not proof.exists()
    assert PROOF not in sys.modules


def test_weights_beside_an_attack_load_and_nothing_runs(tmp_path):
    for zipped in (True, False):
        file = tmp_path / f"{zipped}.pt"
        content = {"x": Touch(tmp_path / "ran"), "state_dict": W}
        loads(save(file, content, _use_new_zipfile_serialization=zipped))
    assert not (tmp_path / "ran").exists()


BOMBS = {
    "twice": b"\x80\x04]" + b"2\x86" * 5000 + b".",
    "twice as a key": b"\x80\x04}]" + b"2\x86" * 60 + b"Ns.",
    "deep lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b"\x80\x04)" + b"\x85" * 50_000 + b".",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "long bytes": b"\x80\x04B\xff\xff\xff\xffx.",
    "itself": b"\x80\x04]\x94h\x00a.",
    "no end": b"\x80\x04" + b"N" * 1000,
    "empty stack": b"\x80\x040.",
    "big number": b"\x80\x04L" + b"9" * 100_000 + b"L\n.",
    "copies": b"\x80\x04(" + b"K\x01" * 100_000 + b"l\x94" + b"cbuiltins\nlist\nh\x00\x85R" * 20_000
    + b".",
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_programs_without_bounds_end_soon(kind, tmp_path):
    started = time.perf_counter()
    for file in (in_archive(tmp_path / "a.pt", BOMBS[kind]), tmp_path / "b.pkl"):
        if file.suffix == ".pkl":
            file.write_bytes(BOMBS[kind])
        with pytest.raises(UserError):
            load_weights(small_net(), file)
    assert time.perf_counter() - started < 20


def test_compressed_archives_have_a_bound(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02N.")
        archive.writestr("x/data/0", bytes(50_000_000))
    with pytest.raises(UserError, match="would unpack to 50 MB"):
        load_weights(small_net(), tmp_path / "x.pt")


def rebuilt(*arguments: bytes) -> bytes:
    storage = b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x04tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(arguments) + b"\x89}tR"
    return b"\x80\x02}\x8c\x01w" + call + b"s."


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (b"K\x00", b"K\x05\x85", b"K\x01\x85"),
        (b"K\x02", b"K\x03\x85", b"K\x01\x85"),
        (b"K\x00", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        (b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85"),
        (b"K\x00", b"K\x02K\x02\x86", b"K\x01\x85"),
        (b"N", b"N", b"N"),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(offset, shape, stride, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", rebuilt(offset, shape, stride))
        archive.writestr("x/data/0", bytes(16))
    net = torch.nn.ParameterDict({"w": torch.zeros(5)})
    for size in (5, 3, 1):
        net["w"] = torch.nn.Parameter(torch.zeros(size))
        with pytest.raises(UserError):
            load_weights(net, tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.to(torch.int8), "0.weight int8"),
        (lambda v: v.to(torch.complex64), "0.weight complex64"),
        (lambda v: v.to(torch.float8_e4m3fn), "0.weight float8_e4m3fn"),
        (lambda v: v.bool(), "0.weight bool"),
        (quantised, "0.weight.*_rebuild_qtensor"),
        (lambda v: v * float("nan"), "0.weight is NaN in 36 of 36 places"),
        (lambda v: v / 0, "0.weight is (NaN|infinite) in 36"),
        (lambda v: v.double() * 1e300, "converted to float32: 0.weight is infinite"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(change, message, tmp_path):
    file = save(tmp_path / "x.pt", {**W, "0.weight": change(W["0.weight"])})
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            load_weights(small_net(), file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted_with_a_line(dtype, tmp_path, caplog):
    content = {k: v.to(dtype) if v.is_floating_point() else v for k, v in W.items()}
    net = small_net()
    with caplog.at_level("INFO"):
        load_weights(net, save(tmp_path / "x.pt", content))
    assert torch.equal(net.get_parameter("4.bias"), content["4.bias"].float())
    assert f"weights in {str(dtype)[6:]} are converted to float32" in caplog.text
