"""Decoding of image files."""

import warnings
from typing import Any

import pytest
import torch
from image_files import image_folder_in, picture
from PIL import Image

from kd.data import decode
from kd.data.scan import scan


@pytest.fixture
def folder(tmp_path):
    return image_folder_in(tmp_path)


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path):
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (18, 0, 42, 20))
    for name, image in (("wide", wide), ("high", wide.transpose(Image.Transpose.ROTATE_90))):
        image.save(tmp_path / f"{name}.png")
        pixels = torch.tensor(list(decode.decode(tmp_path / f"{name}.png", 10, False)))
        assert pixels.view(3, 100).T.unique(dim=0).tolist() == [[0, 255, 0]]


def test_shrinking_is_antialiased_also_of_large_jpegs(tmp_path):
    smooth = picture(0, (9, 9)).resize((512, 512), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "large.jpg", quality=95)
    found = torch.tensor(list(decode.decode(tmp_path / "large.jpg", 32, False))).double()
    reference = smooth.resize((32, 32), Image.Resampling.BILINEAR)
    expected = torch.tensor(list(b"".join(c.tobytes() for c in reference.split()))).double()
    assert float((found - expected).abs().mean()) < 2
    checkers = Image.frombytes("L", (64, 64), bytes([0, 255] * 2048))
    checkers.save(tmp_path / "checkers.png")
    shrunk = torch.tensor(list(decode.decode(tmp_path / "checkers.png", 8, True)))
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
        colour, grey = (decode.decode(name, 8, grayscale) for grayscale in (False, True))
    assert (len(colour), len(grey)) == (192, 64)
    assert all(abs(level - value) <= 1 for level in colour + grey)


@pytest.mark.parametrize("workers", [1, 3])
def test_decoding_does_not_depend_on_the_threads(folder, workers):
    listing = scan(folder)
    paths = [folder / file.path for file in listing.files]
    found, failed = decode.decode_all(paths, 12, False, workers)
    assert failed == {}
    assert torch.equal(found, decode.decode_all(paths, 12, False, None)[0])
