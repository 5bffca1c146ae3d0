"""One known picture in every file format and pixel format."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kd.data.decode import Target, decode_all

ROWS, COLUMNS = np.mgrid[0:32, 0:32]
COLOUR = np.stack([COLUMNS * 8, ROWS * 8, (ROWS + COLUMNS) * 4], -1).astype(np.uint8)
GREY = (ROWS * 4 + COLUMNS * 4 + 3).astype(np.uint8)
GREY[0, 0], GREY[-1, -1] = 0, 255
PICTURE = Image.fromarray(COLOUR)
Turn = Image.Transpose
# The inverse of each EXIF orientation: what a camera held that way has stored
STORED = {
    2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270,
}  # fmt: skip


def decoded(*paths: Path, size: int = 32, grayscale: bool = False):
    """Pixels [N, size, size, C], and what was said."""
    found = decode_all(paths, Target(size, grayscale), 1)
    assert found.failed == {}
    return found.images.permute(0, 2, 3, 1).numpy(), found.facts


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("x.png", {}, 0),
        ("x.PNG", {}, 0),
        ("x.bmp", {}, 0),
        ("x.dib", {}, 0),
        ("x.ppm", {}, 0),
        ("x.pnm", {"format": "PPM"}, 0),
        ("x.tif", {}, 0),
        ("x.TIFF", {"compression": "tiff_lzw"}, 0),
        ("x.webp", {"lossless": True}, 0),
        ("x.jpg", {"quality": 98, "subsampling": 0}, 2),
        ("x.jpe", {"format": "JPEG", "quality": 98, "subsampling": 0}, 2),
        ("x.jfif", {"format": "JPEG", "quality": 98, "subsampling": 0}, 2),
        ("jpeg.png", {"format": "JPEG", "quality": 98, "subsampling": 0}, 2),
        ("png.jpg", {"format": "PNG"}, 0),
        ("webp", {"format": "WEBP", "lossless": True}, 0),
    ],
)
def test_every_file_format_gives_the_picture(tmp_path, name, options, tolerance):
    PICTURE.save(tmp_path / name, **options)
    (found,), facts = decoded(tmp_path / name)
    assert np.abs(found.astype(int) - COLOUR).mean() <= tolerance
    assert facts == []


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "YCbCr"])
def test_every_colour_mode_of_tiff_gives_the_picture(tmp_path, mode):
    PICTURE.convert(mode).save(tmp_path / "x.tif")
    (found,), _ = decoded(tmp_path / "x.tif")
    assert np.abs(found.astype(int) - COLOUR).mean() < 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    lossless: dict[str, dict[str, Any]] = {
        "webp": {"lossless": True},
        "jpg": {"quality": 98, "subsampling": 0},
    }
    path = tmp_path / f"x.{suffix}"
    PICTURE.transpose(STORED[orientation]).save(path, exif=exif, **lossless.get(suffix, {}))
    (found,), _ = decoded(path)
    assert np.abs(found.astype(int) - COLOUR).mean() < 2


def test_damaged_exif_data_leave_the_pixels_as_they_are(tmp_path):
    PICTURE.save(tmp_path / "x.jpg", quality=98, subsampling=0, exif=b"Exif\0\0II*\0\xff\xff\xff")
    (found,), _ = decoded(tmp_path / "x.jpg")
    assert np.abs(found.astype(int) - COLOUR).mean() < 2


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_is_used_and_said(tmp_path, suffix):
    others = [PICTURE.transpose(Turn.ROTATE_180), PICTURE.transpose(Turn.ROTATE_90)]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"x.{suffix}"
    PICTURE.save(path, save_all=True, append_images=others, **options)
    (found,), facts = decoded(path)
    assert np.abs(found.astype(int) - COLOUR).mean() < 6  # GIF has 256 colours
    assert facts == ["of 1 with several frames or pages the first is used"]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_more_than_8_bits_keeps_its_levels(tmp_path, suffix, bits):
    dark = GREY // 4  # on its own it would pass for one of two bits less
    paths = [tmp_path / f"{name}.{suffix}" for name in ("whole", "dark")]
    for path, levels in zip(paths, (GREY, dark), strict=True):
        stored = (levels.astype(np.uint16) << 8) >> (16 - bits)
        if suffix == "pgm":
            path.write_bytes(b"P5 32 32 65535\n" + stored.astype(">u2").tobytes())
        else:
            Image.fromarray(stored).save(path)
    found, facts = decoded(*paths, grayscale=True)
    assert np.abs(found[..., 0].astype(int) - [GREY, dark]).max() <= 1
    assert any(f"{bits}-bit values" in fact for fact in facts) == (bits < 16)


@pytest.mark.parametrize("white", [1, 255])
def test_floating_point_grey_keeps_its_levels(tmp_path, white):
    paths = [tmp_path / "whole.tif", tmp_path / "dark.tif"]
    for path, levels in zip(paths, (GREY, GREY // 255), strict=True):
        Image.fromarray((levels * (white / 255)).astype(np.float32)).save(path)
    found, _ = decoded(*paths, grayscale=True)
    assert np.abs(found[..., 0].astype(int) - [GREY, GREY // 255]).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GREY / 255 - 0.5, "floating point values from -0.5 to 0.5; expected 0 to 1"),
        (GREY * 300.0, "floating point values from 0 to 76500"),
        (np.where(GREY > 9, np.nan, 1.0), "floating point values from nan"),
        (GREY.astype(np.int32) * 1000, "integers from 0 to 255000, and 16-bit images have 0 to"),
    ],
)
def test_values_without_a_known_scale_are_refused(tmp_path, values, message):
    pixels = values if values.dtype == np.int32 else values.astype(np.float32)
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    found = decode_all([tmp_path / "x.tif"], Target(32, True), 1)
    assert message in found.failed[0]
    assert not found.images.any()


def deep_png(path: Path, pixels: np.ndarray) -> None:
    """Write 16-bit colour, which Pillow cannot: uint16 [H, W, 3]."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_16_bit_colour_is_read_or_refused(tmp_path):
    deep_png(tmp_path / "x.png", COLOUR.astype(np.uint16) * 257)
    (found,), _ = decoded(tmp_path / "x.png")
    assert np.array_equal(found, COLOUR)
    deep_png(tmp_path / "x.png", COLOUR.astype(np.uint16) * 16)
    failed = decode_all([tmp_path / "x.png"], Target(32, False), 1).failed
    assert "16-bit colour with 12-bit values" in failed[0]
