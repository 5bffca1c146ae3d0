"""Decoding of images for prediction, compared with that for training."""

import numpy as np
import pytest
from image_files import images as image_folder
from image_files import picture
from PIL import Image

from kd.data import decode
from kd.data.decode import Target
from kd.deploy.prediction import image_batches
from kd.deploy.prediction.image_batches import ImageBatches
from kd.deploy.prediction.image_files import ImageFiles


def decoded(folder, size, grey=False, batch_size=4, scale=None, **settings):
    """Names, images [N, C, H, W] and what was skipped."""
    batches = ImageBatches(ImageFiles([folder]), Target(size, grey, **settings), batch_size)
    found: list[tuple[str, np.ndarray]] = []
    skipped: list[tuple[str, str]] = []
    done: list[int] = []
    scale = scale or batches.survey(True, lambda n: None).peaks.scale()
    for paths, images in batches.decoded(
        scale, lambda p, why: skipped.append((p, why)), done.append
    ):
        assert len(paths) == len(images) <= batch_size
        found += [*zip([path.name for path in paths], images, strict=True)]
    assert sum(done) == len(found) + len(skipped)
    return dict(found), dict(skipped)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_pixels_are_those_of_training(grey, deep, tmp_path):
    """Of any format, also where 12-bit values in 16-bit files decide the scale of all."""
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            here = tmp_path / split / name
            for number, mode in enumerate(("RGB", "L", "P", "RGBA", "1", "LA")):
                image = picture(label + number, (20, 14)).convert(mode)
                image.save(here / f"{mode}.png")
            turned = Image.Exif()
            turned[0x0112] = 6
            picture(7, (90, 200)).save(here / "turned.jpg", exif=turned, quality=95)
            if deep:
                values = np.random.default_rng(label).integers(0, 4096, (12, 12), dtype=np.uint16)
                Image.fromarray(values).save(here / "deep.png")
                Image.fromarray(values // 16).save(here / "dark.png")
    data = image_folder(tmp_path, grayscale=grey)
    data.prepare_data()
    data.setup()
    found, skipped = decoded(tmp_path / "test" / "ant", 12, grey)
    assert not skipped
    expected = data.arrays.test_inputs[data.arrays.test_targets == 0].numpy()
    order = sorted(found)
    assert len(order) == 9 if deep else 7
    np.testing.assert_array_equal(np.stack([found[name] for name in order]), expected)


def test_raw_pixels_of_the_input_size_are_unchanged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for suffix in ("png", "bmp", "tif", "ppm"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    found, _ = decoded(tmp_path, 8)
    assert len(found) == 4
    for image in found.values():
        np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))


def test_images_need_not_become_square(tmp_path):
    picture(0, (60, 40)).save(tmp_path / "a.png")
    (image,) = decoded(tmp_path, 8, width=12)[0].values()
    assert image.shape == (3, 8, 12)
    with Image.open(tmp_path / "a.png") as file:
        expected = np.asarray(file.resize((12, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))


def test_damaged_images_are_skipped_with_the_reason(folder):
    root = folder / "train" / "ant"
    (root / "000.png").write_bytes(b"%PDF-1.7")
    (root / "003.png").write_bytes((root / "003.png").read_bytes()[:60])
    picture(0, (40, 40)).save(root / "001.PNG")
    found, skipped = decoded(root, 12, max_megapixels=0.001)
    assert len(found) == 47
    assert {path.rpartition("/")[2] for path in skipped} == {"000.png", "003.png", "001.PNG"}
    assert skipped[f"{root}/000.png"].startswith("it is PDF")
    assert skipped[f"{root}/001.PNG"].endswith(" more than max_megapixels=0.001")


def test_a_file_given_twice_is_read_twice(folder):
    file = folder / "train" / "ant" / "000.png"
    batches = ImageBatches(ImageFiles([file, file]), Target(12, False), 4)
    ((paths, images),) = batches.decoded(decode.Scale(), print, lambda n: None)
    assert paths == [file, file]
    assert images.shape == (2, 3, 12, 12)


def test_images_are_decoded_as_they_are_taken(folder, monkeypatch):
    """So that a folder may hold more images than the memory."""
    calls = []

    def counted(path, *rest):
        calls.append(path)
        return decode.decode(path, *rest)

    monkeypatch.setattr(image_batches, "decode", counted)
    batches = ImageBatches(ImageFiles([folder]), Target(12, False), 4)
    survey = batches.survey(True, lambda n: None)
    assert (survey.images, len(calls)) == (200, 0)
    taken = batches.decoded(decode.Scale(), print, lambda n: None)
    next(taken)
    assert len(calls) == 4
    next(taken)
    assert len(calls) == 8
