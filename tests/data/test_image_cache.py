"""The cache of decoded images: when it is written, read, and written again."""

import os
import threading
from pathlib import Path

import pytest
import torch
from image_files import images, picture
from small_data import ready

from kd.io import tensors as tensor_file


def test_sizes_and_grey_have_caches_of_their_own(folder, decoded):
    small, grey = ready(images(folder, image_size=6)), ready(images(folder, grayscale=True))
    assert (small.in_channels, small.image_size) == (3, 6)
    assert (grey.in_channels, grey.image_size) == (1, 12)
    ready(images(folder, image_size=6))
    assert decoded == [200, 200]
    assert len(list((folder / ".kd_cache").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "touch", "move"])
def test_a_change_makes_the_cache_again(folder, decoded, change):
    before = ready(images(folder)).arrays.train_inputs
    path = folder / "train" / "cat" / "000.png"
    if change == "add":
        picture(999).save(folder / "train" / "cat" / "999.png")
    elif change == "remove":
        path.unlink()
    elif change == "rename":
        path.rename(path.with_name("zzz.png"))
    elif change == "rewrite":
        picture(999).save(path)
    elif change == "touch":
        os.utime(path, ns=(0, 1))
    else:
        path.rename(folder / "train" / "ant" / "cat.png")
    after = ready(images(folder)).arrays.train_inputs
    assert len(decoded) == 2
    assert torch.equal(before, after) == (change == "touch")
    ready(images(folder))
    assert len(decoded) == 2


@pytest.mark.parametrize("how", ["in place", "another file"])
def test_other_pixels_with_the_same_size_and_time_are_decoded(folder, decoded, how):
    path = folder / "train" / "cat" / "000.bmp"
    picture(1).save(path)
    before, status = ready(images(folder)).arrays.train_inputs, path.stat()
    place = path if how == "in place" else path.with_name("other")
    picture(2).save(place, format="BMP")
    place.replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert not torch.equal(ready(images(folder)).arrays.train_inputs, before)


def test_exchanged_class_folders_are_decoded(folder, decoded):
    """The files have the same names, sizes and times, and lie in the other folder."""
    for seed, name in enumerate(("ant", "bee")):
        for path in (folder / "train" / name).iterdir():
            path.unlink()
        for number in range(4):
            path = folder / "train" / name / f"{number}.bmp"
            picture(10 * seed + number).save(path)
            os.utime(path, ns=(0, 0))
    before = ready(images(folder)).arrays.train_inputs
    (folder / "train" / "ant").rename(folder / "x")
    (folder / "train" / "bee").rename(folder / "train" / "ant")
    (folder / "x").rename(folder / "train" / "bee")
    after = ready(images(folder)).arrays.train_inputs
    assert torch.equal(after[:8], torch.cat([before[4:8], before[:4]]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1000],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"\xff" * 1000,
        lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    ],
    ids=["truncated", "header only", "empty", "nonsense", "one bit"],
)
def test_a_damaged_cache_is_made_again(folder, decoded, damage, caplog):
    expected = ready(images(folder)).fingerprint
    (cache,) = (folder / ".kd_cache").glob("*.safetensors")
    cache.write_bytes(damage(cache.read_bytes()))
    assert ready(images(folder)).fingerprint == expected
    assert decoded == [200, 200]
    assert "is damaged" in caplog.text
    ready(images(folder))
    assert decoded == [200, 200]


def test_cache_elsewhere_if_root_cannot_be_written(folder, decoded, tmp_path):
    (folder / ".kd_cache").touch()  # mkdir fails, as in a read-only folder, for root too
    ready(images(folder))
    (cache,) = Path(f"{folder}-elsewhere").glob("*.safetensors")
    assert cache.name.startswith("images-")
    ready(images(folder))
    assert decoded == [200]


def test_no_cache_folder_can_be_written(folder, decoded, caplog):
    for path in (folder / ".kd_cache", Path(f"{folder}-elsewhere")):
        path.touch()
    assert ready(images(folder)).num_samples["pool"] == 140
    assert "decoded again next time" in caplog.text
    ready(images(folder))
    assert decoded == [200, 200]


def test_a_full_disk_leaves_no_half_file(folder, monkeypatch, caplog):
    import safetensors.torch

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert ready(images(folder)).num_samples["pool"] == 140
    assert "no space left" in caplog.text
    assert [path.name for path in (folder / ".kd_cache").iterdir()] == ["12-rgb.safetensors.lock"]


def test_jobs_that_start_together_decode_once(folder, decoded):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ready(images(folder)).fingerprint))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert decoded == [200]


def test_files_of_a_killed_writer_are_deleted(folder):
    (folder / ".kd_cache").mkdir()
    (folder / ".kd_cache" / ".12-rgb.safetensors.4711.tmp").write_bytes(b"half")
    ready(images(folder))
    assert not list((folder / ".kd_cache").glob("*.tmp"))


def test_the_cache_is_readable_by_others(folder):
    before = os.umask(0o022)
    try:
        ready(images(folder))
    finally:
        os.umask(before)
    (cache,) = (folder / ".kd_cache").glob("*.safetensors")
    assert cache.stat().st_mode & 0o777 == 0o644


def test_a_cache_for_another_key_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    stored = tensor_file.Stored({"a": torch.arange(5), "empty": torch.zeros(0, 3)}, ["note"])
    tensor_file.write(path, "key", stored)
    assert tensor_file.read(path, "other") is None
    found = tensor_file.read(path, "key")
    assert found is not None
    assert found.notes == ["note"]
    assert torch.equal(found.tensors["a"], torch.arange(5))
    assert found.tensors["empty"].shape == (0, 3)
    assert tensor_file.read(tmp_path / "none", "key") is None
