"""Layout of an image folder."""

import errno
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


def move_out(root: Path, inner: str) -> None:
    """Leave the folder `inner` alone in the root."""
    (root / inner).rename(root / "moved")
    remove(root / "train", root / "test")


def flatten(root: Path) -> None:
    for file in [*root.glob("test/ant/*")]:
        file.rename(root / file.name)
    remove(root / "train", root / "test")


def empty_files(root: Path) -> None:
    for file in (root / "train" / "ant").iterdir():
        file.write_bytes(b"")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: move_out(root, "train/ant"), "moved/ is a single class: two or more"),
        (flatten, "images lie in the root itself"),
        (empty_files, "train/ant holds no image; left out: 50 empty file"),
    ],
)
def test_the_reason_of_a_wrong_layout_is_named(folder, break_it, message):
    break_it(folder)
    with pytest.raises(UserError, match=message):
        scan(folder)


@pytest.mark.parametrize("forbidden", ["train", "test"])
def test_a_folder_without_permission_is_named(folder, forbidden, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path) == folder / forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not bind root, who runs many tests
    with pytest.raises(UserError, match=f"cannot read .*/{forbidden}: Permission denied"):
        scan(folder)


def test_images_beside_the_splits_are_counted(folder):
    (folder / "test" / "ant" / "000.png").rename(folder / "loose.png")
    assert scan(folder).left_out.files == {"outside a class folder": ["loose.png"]}


@real_data
@pytest.mark.skipif(
    not Path(os.environ.get("KD_DATA_DIR", "."), "cifar10_images").is_dir(), reason="not unpacked"
)
def test_the_real_image_folder_is_listed():
    listing = scan(Path(os.environ["KD_DATA_DIR"]) / "cifar10_images")
    assert (len(listing.class_names), len(listing.files)) == (10, 60000)
