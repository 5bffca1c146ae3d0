"""Cached outputs: equal to the live teacher's, reused, shared, and computed again if damaged."""

import errno
import os
import signal
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from commands import server
from safetensors import safe_open
from support import present
from torch import nn

from kd.data.digits import Digits
from kd.data.loader import TensorLoader
from kd.data.views import CropFlip, Limited, ViewSpace
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.teachers.cached import CachedTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.output_cache import OutputCache

TAP_PATHS = {"stage1": "2"}


def make_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 64, 10)).eval()


@pytest.fixture(scope="module")
def data() -> Digits:
    data = Digits(
        name="digits",
        batch_size=64,
        mean=[0.3053],
        std=[0.3760],
        seed=3,
        view=CropFlip(padding=1),
    )
    data.prepare_data()
    data.setup()
    return data


def cached(
    folder: Path, dtype: torch.dtype = torch.float32, taps=("stage1",), key: str = "key"
) -> CachedTeacher:
    shapes = {"logits": (10,), **dict.fromkeys(taps, (4, 8, 8))}
    teacher = FrozenTeacher(make_net(), TAP_PATHS, taps)
    cache = OutputCache(folder, key, shapes, dtype, {"teacher": "t"})
    return CachedTeacher(teacher, cache, dtype, 100)


def prepare(teacher: CachedTeacher, loader: TensorLoader, epoch: int = 0) -> None:
    loader.sampler.set_epoch(epoch)
    index = loader.sampler.order()[: len(loader) * loader.batch_size]
    with torch.no_grad():
        teacher.prepare(loader, index, lambda done, wanted: None)


def reseeded(data: Digits, seed: int, view: ViewSpace) -> TensorLoader:
    return data.variant(seed=seed, view=view).train_dataloader()


# Equal to the live teacher


@pytest.mark.parametrize("case", range(8))
@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float32, 1e-6), (torch.float16, 1e-3)], ids=["32", "16"]
)
def test_cached_and_live_outputs_agree_for_random_images_and_views(
    case, dtype, relative, data, tmp_path
):
    generator = torch.Generator().manual_seed(case)
    seed, epoch, padding, count = torch.randint(1, 8, (4,), generator=generator).tolist()
    space: ViewSpace = CropFlip(padding=padding % 3)
    space = Limited(space, min(count, space.size)) if case % 2 else space
    loader = reseeded(data, seed, space)
    teacher, live = cached(tmp_path, dtype), FrozenTeacher(make_net(), TAP_PATHS, ["stage1"])
    prepare(teacher, loader, epoch)
    for batch in loader:
        found, expected = teacher.outputs(batch), live.outputs(batch)
        for ours, theirs in zip(
            (found.logits, found.taps["stage1"]),
            (expected.logits, expected.taps["stage1"]),
            strict=True,
        ):
            assert ours.dtype == torch.float32
            error = (ours - theirs).abs().max() / theirs.abs().max()
            assert error <= relative


def test_batch_of_other_images_does_not_match(data, tmp_path):
    loader, teacher = data.train_dataloader(), cached(tmp_path)
    prepare(teacher, loader, epoch=1)
    batches = list(loader)
    assert all(teacher.matches(batch, loader) for batch in batches)
    first, second = batches[:2]
    assert not teacher.matches(first._replace(index=second.index, view=second.view), loader)
    assert not teacher.matches(first._replace(view=first.view + 1), loader)
    assert not teacher.matches(first._replace(input=first.input.flip(3)), loader)
    held_out = data.split.val[: len(first.index)]
    assert not teacher.matches(first._replace(index=held_out), loader)  # not prepared


def test_large_tensors_are_read_from_the_files(data, tmp_path, monkeypatch):
    loader = data.train_dataloader()
    teacher = cached(tmp_path)
    prepare(teacher, loader, 1)
    resident = [teacher.outputs(batch) for batch in loader]
    monkeypatch.setattr("kd.teachers.cached._RESIDENT_BYTES", 0)
    prepare(teacher, loader, 1)
    for expected, batch in zip(resident, loader, strict=True):
        found = teacher.outputs(batch)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.taps["stage1"], expected.taps["stage1"])


def test_rounding_error_is_measured(data, tmp_path):
    teacher = cached(tmp_path, torch.float16)
    prepare(teacher, data.train_dataloader())
    assert teacher.rounding.keys() == {"logits", "stage1"}
    assert all(1e-5 < error < 5e-4 for error in teacher.rounding.values())


def test_overflow_of_the_dtype_is_refused(data, tmp_path):
    teacher = cached(tmp_path, torch.float16)
    teacher.teacher.net.get_parameter("0.weight").data *= 1e6
    with pytest.raises(UserError, match=r"reach .* use teacher.cache.dtype=float32"):
        prepare(teacher, data.train_dataloader())


# Reuse


def test_cached_outputs_are_not_computed_again(data, tmp_path):
    loader = data.train_dataloader()
    used = len(loader) * loader.batch_size
    first = cached(tmp_path)
    prepare(first, loader, 0)
    assert first.forwards == used
    second = cached(tmp_path)
    prepare(second, loader, 0)
    assert (second.forwards, second.seconds) == (0, 0.0)


def test_limited_views_need_one_forward_pass_each(data, tmp_path):
    rows = data.split.train
    loader = data.variant(views=3, batch_size=len(rows)).train_dataloader()
    teacher = cached(tmp_path)
    for epoch in range(7):
        prepare(teacher, loader, epoch)
    assert teacher.forwards == 3 * len(rows)


def test_another_tap_needs_a_pass_and_reuses_the_logits(data, tmp_path):
    loader = data.train_dataloader()
    prepare(cached(tmp_path, taps=()), loader)
    logits = sorted((tmp_path / "logits").iterdir())
    more = cached(tmp_path)
    prepare(more, loader)
    assert more.forwards == len(loader) * loader.batch_size
    assert sorted((tmp_path / "logits").iterdir()) == logits
    assert list((tmp_path / "stage1").iterdir())


def test_another_key_is_another_cache(data, tmp_path):
    loader = data.train_dataloader()
    prepare(cached(tmp_path), loader)
    other = cached(tmp_path, key="other")
    prepare(other, loader)
    assert other.forwards == len(loader) * loader.batch_size


# Damaged files


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[-100] ^= 4
    elif how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "zeros":
        content = bytearray(len(content))
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["bit", "truncated", "empty", "zeros"])
@pytest.mark.parametrize("tensor", ["logits", "stage1"])
def test_damaged_file_is_computed_again(how, tensor, data, tmp_path, caplog):
    loader = data.train_dataloader()
    first = cached(tmp_path)
    prepare(first, loader)
    expected = [first.outputs(batch).logits for batch in loader]
    (path,) = (tmp_path / tensor).glob("*.safetensors")
    damage(path, how)
    again = cached(tmp_path)
    prepare(again, loader)
    assert again.forwards == len(loader) * loader.batch_size
    assert "is damaged" in caplog.text
    for logits, batch in zip(expected, loader, strict=True):
        assert torch.equal(again.outputs(batch).logits, logits)
    third = cached(tmp_path)
    prepare(third, loader)
    assert third.forwards == 0


def test_deleted_file_is_computed_again(data, tmp_path):
    loader = data.train_dataloader()
    prepare(cached(tmp_path), loader)
    late = cached(tmp_path)
    late.cache.missing(torch.arange(3))  # indexes the files, without reading rows
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    prepare(late, loader)
    assert late.forwards == len(loader) * loader.batch_size


@pytest.mark.parametrize("epoch", [0, 1], ids=["from the start", "in the second epoch"])
@pytest.mark.parametrize("taps", [(), ("stage1",)])
def test_a_full_disk_changes_no_output(epoch, taps, data, tmp_path, monkeypatch, caplog):
    """A run must not depend on the room that the disk has: its outputs are rounded all the same."""

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    loader = data.variant(views=2).train_dataloader()
    usual, poor = (
        cached(tmp_path / "a", torch.float16, taps),
        cached(tmp_path / "b", torch.float16, taps),
    )
    for number in range(4):
        prepare(usual, loader, number)
        expected = [usual.outputs(batch) for batch in loader]
        with monkeypatch.context() as disk:
            if number >= epoch:
                disk.setattr(tensor_file, "write", full)
            prepare(poor, loader, number)
        for batch, outputs in zip(loader, expected, strict=True):
            assert poor.matches(batch, loader)
            found = poor.outputs(batch)
            assert torch.equal(found.logits, outputs.logits)
            assert all(torch.equal(found.taps[tap], outputs.taps[tap]) for tap in taps)
    assert caplog.text.count("keeping the outputs of one epoch in memory") == 1
    assert poor.output_source == "cached"


# Files whose key and checksums fit, and whose content does not


def forge(path: Path, what: str) -> None:
    with safe_open(path, "pt") as file:
        key, ids, rows = file.metadata()["key"], file.get_tensor("ids"), file.get_tensor("rows")
    rows = {
        "shape": rows.reshape(len(rows), 2, -1),
        "width": rows[:, 1:],
        "count": rows[1:],
        "dtype": rows.double(),
        "whole": rows.long(),
        "nan": rows.index_fill(0, torch.tensor([5]), float("nan")),
        "infinity": rows.index_fill(0, torch.tensor([5]), float("inf")),
    }.get(what, rows)
    ids = {"float ids": ids.double(), "ids of a matrix": ids.reshape(1, -1)}.get(what, ids)
    tensors = {"ids": ids.contiguous(), "rows": rows.contiguous()}
    if what == "no rows":
        del tensors["rows"]
    tensor_file.write(path, key, tensor_file.Stored(tensors, []))


FORGED = ("shape", "width", "count", "dtype", "whole", "nan", "infinity", "float ids", "no rows")


@pytest.mark.parametrize("what", [*FORGED, "ids of a matrix"])
def test_forged_rows_are_computed_again(what, data, tmp_path, caplog):
    loader = data.train_dataloader()
    first = cached(tmp_path)
    prepare(first, loader)
    expected = [first.outputs(batch).logits for batch in loader]
    (path,) = (tmp_path / "logits").glob("*.safetensors")
    forge(path, what)
    again = cached(tmp_path)
    prepare(again, loader)
    assert again.forwards == len(loader) * loader.batch_size
    assert str(path) in caplog.text
    for logits, batch in zip(expected, loader, strict=True):
        assert torch.equal(again.outputs(batch).logits, logits)


def test_a_teacher_without_finite_outputs_is_refused(data, tmp_path):
    teacher = cached(tmp_path)
    teacher.teacher.net.get_parameter("4.weight").data[0, 0] = float("nan")
    with pytest.raises(UserError, match="logits are not finite"):
        prepare(teacher, data.train_dataloader())


# Several processes


def fill(folder: Path, counts, delay: float) -> None:
    torch.set_num_threads(1)
    data = Digits(name="digits", view=CropFlip(padding=1), mean=[0.3], std=[0.4], batch_size=64)
    data.prepare_data()
    data.setup()
    teacher = cached(folder)
    live = teacher.teacher.outputs

    def slow(batch):
        time.sleep(delay)
        return live(batch)

    with mock.patch.object(teacher.teacher, "outputs", slow):
        prepare(teacher, data.train_dataloader())
    batch = next(iter(data.train_dataloader()))
    counts.put((teacher.forwards, teacher.outputs(batch).logits.sum().item()))


def test_one_of_several_processes_computes_even_if_the_first_is_killed(tmp_path):
    counts = server.Queue()
    folder = tmp_path / "cache"
    victim = server.Process(target=fill, args=(folder, counts, 5.0))
    victim.start()
    deadline = time.monotonic() + 60
    while not (folder / "about.json").exists():  # it holds the lock now, and is computing
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = [server.Process(target=fill, args=(folder, counts, 0.0)) for _ in range(3)]
    for process in others:
        process.start()
    os.kill(present(victim.pid), signal.SIGKILL)
    results = [counts.get(timeout=120) for _ in others]
    for process in others:
        process.join(60)
    assert sorted(forwards for forwards, _ in results) == [0, 0, 1280]
    assert len({total for _, total in results}) == 1
