"""Decoding of image files."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import picture
from PIL import Image

from kd.data import decode
from kd.data.decode import Target
from kd.data.scan import scan


def pixels(path: Path, size: int, grayscale: bool = False) -> bytes:
    return decode.decode(path, Target(size, grayscale)).pixels


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path):
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (18, 0, 42, 20))
    for name, image in (("wide", wide), ("high", wide.transpose(Image.Transpose.ROTATE_90))):
        image.save(tmp_path / f"{name}.png")
        found = torch.tensor(list(pixels(tmp_path / f"{name}.png", 10)))
        assert found.view(3, 100).T.unique(dim=0).tolist() == [[0, 255, 0]]


def test_shrinking_is_antialiased_also_of_large_jpegs(tmp_path):
    smooth = picture(0, (9, 9)).resize((512, 512), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "large.jpg", quality=95)
    found = torch.tensor(list(pixels(tmp_path / "large.jpg", 32))).double()
    reference = smooth.resize((32, 32), Image.Resampling.BILINEAR)
    expected = torch.tensor(list(b"".join(c.tobytes() for c in reference.split()))).double()
    assert float((found - expected).abs().mean()) < 2
    checkers = Image.frombytes("L", (64, 64), bytes([0, 255] * 2048))
    checkers.save(tmp_path / "checkers.png")
    shrunk = torch.tensor(list(pixels(tmp_path / "checkers.png", 8, True)))
    assert 120 < int(shrunk.min()) <= int(shrunk.max()) < 136


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_pixel_format_becomes_colour_or_grey(tmp_path, mode):
    name = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    value = 255 if mode == "1" else 200
    image = Image.new("L", (8, 8), value)
    image = (
        Image.frombytes("I;16", (8, 8), (200 * 257).to_bytes(2, "little") * 64)
        if mode == "I;16"
        else image.convert(mode)
    )
    options: dict[str, Any] = {"transparency": b"\x00\x80"} if mode == "P" else {}
    image.save(name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colour, grey = (pixels(name, 8, grayscale) for grayscale in (False, True))
    assert (len(colour), len(grey)) == (192, 64)
    assert all(abs(level - value) <= 1 for level in colour + grey)


@pytest.mark.parametrize("workers", [1, 3])
def test_decoding_does_not_depend_on_the_threads(folder, workers):
    listing = scan(folder)
    paths = [folder / file.path for file in listing.files]
    found = decode.decode_all(paths, Target(12, False), workers)
    assert (found.failed, found.facts) == ({}, [])
    assert torch.equal(found.images, decode.decode_all(paths, Target(12, False)).images)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"\0\0\0\x1cftypavif" + bytes(40), "AVIF"),
        (b"\0\0\0\x1cftypheic" + bytes(40), "HEIC"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"no image", "damaged, or not PNG"),
    ],
)
def test_other_formats_are_named_and_not_opened(tmp_path, content, kind):
    (tmp_path / "x.png").write_bytes(content)
    found = decode.decode_all([tmp_path / "x.png"], Target(8, False), 1)
    assert kind in found.failed[0]


@pytest.mark.parametrize("name", ["x.eps", "x.tga", "x.pcx", "x.ico"])
def test_an_intact_image_of_another_format_is_not_opened(tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "x.png")
    assert decode.decode_all([tmp_path / "x.png"], Target(8, False), 1).failed


def test_memory_is_bounded(tmp_path):
    """A picture of 13 300² pixels would take 0.7 GB in colour."""
    Image.new("1", (13_300, 13_300)).save(tmp_path / "bomb.png")
    Image.new("L", (4000, 3000)).save(tmp_path / "photo.jpg")
    Image.new("L", (4000, 3000)).save(tmp_path / "steps.jpg", progressive=True)
    paths = [tmp_path / name for name in ("bomb.png", "photo.jpg", "steps.jpg")]
    found = decode.decode_all(paths, Target(32, False, max_megapixels=1), 1)
    # At an eighth of its scale the photograph has 0.2 megapixels
    assert sorted(found.failed) == [0, 2]
    assert "too large: 13300 x 13300 pixels, more than data.max_megapixels=1" in found.failed[0]
    assert 0 in decode.decode_all(paths[:1], Target(32, False), 1).failed
