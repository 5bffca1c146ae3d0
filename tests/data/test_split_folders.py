"""Image folders as people have them: names of splits, nested folders, files to leave out."""

import logging
import os
from pathlib import Path

import pytest
import torch
from image_files import images, picture
from small_data import ready

from kd.data.left_out import printable
from kd.data.scan import scan
from kd.errors import UserError


def tree(root: Path, *files: str) -> Path:
    """A folder of different images."""
    for seed, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name, format="PNG")
    return root


def flat(*folders: str, count: int = 2) -> list[str]:
    return [f"{folder}/{c}/{n}.png" for folder in folders for c in "ab" for n in range(count)]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "valid", "Test"),
        ("TRAIN", "validation", "TESTING"),
        ("training", "dev", "testing"),
        ("training_set", "eval", "test_set"),
        ("train2017", "val2017", "test2017"),
    ],
)
def test_common_names_of_splits_are_understood(tmp_path, train, val, test):
    found = scan(tree(tmp_path, *flat(train, val, test)))
    assert [file.split for file in found.files] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert not found.left_out


def test_the_very_name_of_a_split_wins(tmp_path):
    found = scan(tree(tmp_path, *flat("train", "test", "testing", "raw")))
    assert {file.path.split("/")[0] for file in found.files} == {"train", "test"}
    assert str(found.left_out) == "2 folder beside the splits (raw/, testing/)"


def test_two_folders_for_one_split_are_refused(tmp_path):
    tree(tmp_path, *flat("train", "valid", "dev", "test"))
    with pytest.raises(UserError, match="dev, valid are all names of the split val"):
        scan(tmp_path)


def test_what_is_there_is_listed_and_the_inner_folder_offered(tmp_path):
    tree(tmp_path, *flat("pets/train", "pets/test"))
    with pytest.raises(UserError, match=r"there is: pets/") as error:
        scan(tmp_path)
    assert f"did you mean data.root={tmp_path / 'pets'}?" in str(error.value)


def test_nested_folders_belong_to_their_class(tmp_path):
    root = tree(tmp_path, "train/a/1.png", "train/a/2019/may/2.png", "train/b/3.png", *flat("test"))
    (root / "train" / "a" / "2019" / "loop").symlink_to(root / "train" / "a")
    found = scan(root)
    assert [(f.path, f.label) for f in found.files[:3]] == [
        ("train/a/1.png", 0), ("train/a/2019/may/2.png", 0), ("train/b/3.png", 1),
    ]  # fmt: skip
    assert str(found.left_out) == "1 link to a folder above (train/a/2019/loop/)"


def test_a_class_may_be_called_train(tmp_path):
    tree(tmp_path, *(f"{name}/{n}.png" for name in ("bus", "car", "train") for n in range(5)))
    assert scan(tmp_path).class_names == ["bus", "car", "train"]


@pytest.mark.parametrize("names", [("train", "test"), ("train", "test1"), ("test", "valid")])
def test_splits_without_class_folders_are_no_classes(tmp_path, names):
    tree(tmp_path, *(f"{name}/{n}.png" for name in names for n in range(5)))
    with pytest.raises(UserError, match=r"holds no class folder|train is missing"):
        scan(tmp_path)


def test_files_are_left_out_by_reason(tmp_path):
    root = tree(tmp_path, *flat("train", "test", count=20), "train/loose.png")
    folder = root / "train" / "a"
    for junk in ("@eaDir", ".ipynb_checkpoints", "__MACOSX"):
        for place in (root, root / "train", folder):
            tree(place / junk, "0.png", "1.png")
    for name in ("Thumbs.db", ".DS_Store", "._0.png", "desktop.ini"):
        (folder / name).write_bytes(b"x")
    for name in ("notes.txt", "list.TXT", ".hidden.png", "README", "scene.jp2"):
        (folder / name).write_text("some words")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "empty.png").touch()
    os.mkfifo(folder / "pipe.png")
    picture(77).save(folder / "n0144", format="WEBP", lossless=True)
    found = scan(root)
    assert found.class_names == ["a", "b"]
    assert len(found.files) == 81
    assert {why: sorted(files) for why, files in found.left_out.files.items()} == {
        ".txt": ["train/a/list.TXT", "train/a/notes.txt"],
        ".jp2": ["train/a/scene.jp2"],
        "hidden": ["train/a/.hidden.png"],
        "without suffix": ["train/a/README"],
        "broken link": ["train/a/gone.png", "train/a/itself.png"],
        "empty file": ["train/a/empty.png"],
        "no regular file": ["train/a/pipe.png"],
        "outside a class folder": ["train/loose.png"],
    }


def test_class_names_match_in_composed_and_decomposed_form(tmp_path):
    tree(tmp_path, "train/café/1.png", "train/b/2.png", "test/cafe\u0301/3.png", "test/b/4.png")
    assert [file.label for file in scan(tmp_path).files] == [0, 1, 0, 1]


def test_names_of_files_cannot_write_to_the_terminal():
    assert printable("a\x1b[2J\n.png") == "a\\x1b[2J\\n.png"
    assert printable("\udcff.png") == "\\udcff.png"


@pytest.mark.parametrize("layout", ["classes", "train"])
def test_a_test_set_is_held_out_where_there_is_none(tmp_path, caplog, layout):
    names = [f"{c}/{n}.png" for c, count in {"ant": 20, "bee": 30}.items() for n in range(count)]
    root = tree(tmp_path, *(names if layout == "classes" else [f"train/{n}" for n in names]))
    with caplog.at_level(logging.INFO):
        data = ready(images(root))
    assert data.num_samples == {"train": 36, "val": 4, "test": 10, "pool": 40}
    assert torch.bincount(data.test_targets).tolist() == [4, 6]
    said = [message for message in caplog.messages if "test set" in message]
    (line,) = said
    where = "no split folders" if layout == "classes" else "no test folder"
    assert f"{where}: of 50 images in 2 classes, 10 are the test set" in line
    same = [
        ready(images(root, **s)).test_targets.tolist() for s in ({"seed": 5}, {"split_seed": 3})
    ]
    assert same == [data.test_targets.tolist()] * 2
    tested = {bytes(i.numpy().tobytes()) for i in data.arrays.test_inputs}
    other = ready(images(root, seed=5, split_seed=3)).arrays.test_inputs
    assert {bytes(i.numpy().tobytes()) for i in other} == tested
    moved = ready(images(root, test_seed=1, test_fraction=0.5)).arrays.test_inputs
    assert len(moved) == 25
    trained = {bytes(i.numpy().tobytes()) for i in data.arrays.train_inputs}
    assert len(trained | tested) == 50


def test_too_few_images_for_a_test_set_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.test_fraction=0.1 holds out none of 4 samples"):
        ready(images(tree(tmp_path, *flat("all")).joinpath("all"), test_fraction=0.1))


def test_names_follow_the_images(tmp_path):
    data = ready(images(tree(tmp_path, *flat("all", count=10)).joinpath("all")))
    for split in ("train", "test"):
        for row, image in enumerate(getattr(data.arrays, f"{split}_inputs")):
            label, number = data.image_name(split, row).removesuffix(".png").split("/")
            seed = "ab".index(label) * 10 + int(number)
            assert image.permute(1, 2, 0).numpy().tobytes() == picture(seed).tobytes()


def test_a_class_without_test_images_is_said(tmp_path, caplog):
    root = tree(tmp_path, *flat("train"), "train/c/8.png", "train/c/9.png", *flat("test"))
    (root / "test" / "c").mkdir()
    assert ready(images(root, val_fraction=0.5)).num_samples["test"] == 4
    assert "1 of 3 classes have no test image (c)" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_fraction": 0.0}, r"test_fraction must be in \(0, 1\), got 0.0"),
        ({"test_fraction": 1}, r"test_fraction must be in \(0, 1\), got 1"),
        ({"test_seed": -1}, "test_seed must be ≥ 0"),
        ({"max_megapixels": 0}, "max_megapixels must be > 0"),
    ],
)
def test_settings_are_checked(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        images(tmp_path, **settings)
