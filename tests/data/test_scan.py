"""Layout of an image folder."""

import os
import shutil
from pathlib import Path

import pytest
from image_files import images

from kd.data.scan import scan
from kd.errors import UserError

real_data = pytest.mark.skipif("KD_DATA_DIR" not in os.environ, reason="KD_DATA_DIR is not set")


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("break_it", "messages"),
    [
        (lambda root: remove(root), ["is not a folder"]),
        (lambda root: remove(root / "train"), ["train is missing", "there is: test/"]),
        (lambda root: remove(*root.iterdir()), ["train is missing", "there is: nothing"]),
        (lambda root: remove(*(root / "test").iterdir()), ["test holds no class"]),
        (lambda root: remove(*(root / "train").iterdir()), ["train holds no class"]),
        (
            lambda root: remove(
                *(root / split / name for split in ("train", "test") for name in ("bee", "cat"))
            ),
            ["two or more classes: ['ant']"],
        ),
        (lambda root: (root / "train" / "dog").mkdir(), ["train/dog holds no image"]),
        (lambda root: (root / "test" / "dog").mkdir(), ["test has classes that train/ lacks: dog"]),
        (lambda root: (root / "val" / "Ant").mkdir(parents=True), ["val has classes that", "Ant"]),
        (lambda root: (root / "val").mkdir(), ["val holds no class folder"]),
    ],
)  # fmt: skip
def test_a_folder_laid_out_wrongly_is_named(folder, decoded, break_it, messages):
    break_it(folder)
    with pytest.raises(UserError) as error:
        images(folder).prepare_data()
    assert all(message in str(error.value) for message in messages), str(error.value)
    assert str(folder) in str(error.value)
    assert decoded == []


@real_data
@pytest.mark.skipif(
    not Path(os.environ.get("KD_DATA_DIR", "."), "cifar10_images").is_dir(), reason="not unpacked"
)
def test_the_real_image_folder_is_listed():
    listing = scan(Path(os.environ["KD_DATA_DIR"]) / "cifar10_images")
    assert (len(listing.class_names), len(listing.files)) == (10, 60000)
