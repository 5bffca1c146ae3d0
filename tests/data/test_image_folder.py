"""Folders of images: what is read, and damaged images."""

import logging

import pytest
import torch
from image_files import images, picture, spoil
from small_data import ready

from kd.errors import UserError


def test_a_folder_is_read(folder, decoded):
    (folder / "train" / "ant" / "notes.txt").write_text("not an image")
    (folder / "train" / "ant" / "._000.png").write_text("not data either")
    (folder / "train" / ".DS_Store").touch()
    data = ready(images(folder))
    assert data.num_samples == {"train": 126, "val": 14, "test": 60, "pool": 140}
    assert data.class_names == ["ant", "bee", "cat"]
    assert data.arrays.train_targets.tolist() == [0] * 50 + [1] * 50 + [2] * 40
    for number in (0, 49, 50, 139):
        pixels = torch.frombuffer(bytearray(picture(number + 1).tobytes()), dtype=torch.uint8)
        expected = pixels.view(12, 12, 3).permute(2, 0, 1)
        assert torch.equal(data.arrays.train_inputs[number], expected)
    assert decoded == [200]
    again = ready(images(folder))
    assert decoded == [200]
    assert again.fingerprint == data.fingerprint


def test_a_val_folder_replaces_the_split(folder):
    (folder / "val" / "bee").mkdir(parents=True)
    picture(0).save(folder / "val" / "bee" / "x.jpeg")
    data = ready(images(folder, val_fraction=0.0))
    assert data.num_samples == {"train": 140, "val": 1, "test": 60, "pool": 140}
    assert next(iter(data.val_dataloader())).target.tolist() == [1]


@pytest.mark.parametrize(
    "names", [["train/bee/004.PNG"], ["train/bee/004.PNG", "test/cat/000.png"]]
)
def test_up_to_one_percent_damaged_images_are_left_out(folder, caplog, names):
    whole = ready(images(folder)).arrays
    spoil(folder, names)
    data = ready(images(folder))
    lost_test = len(names) - 1
    assert data.num_samples["pool"] == 139
    assert data.num_samples["test"] == 60 - lost_test
    assert torch.equal(
        data.arrays.train_inputs, torch.cat([whole.train_inputs[:54], whole.train_inputs[55:]])
    )
    assert torch.bincount(data.arrays.train_targets).tolist() == [50, 49, 40]
    for _ in range(2):  # also when it comes from the cache
        assert f"left out: {len(names)} damaged (" in caplog.text
        assert all(name in caplog.text for name in names)
        caplog.clear()
        ready(images(folder))


def test_more_than_one_percent_damaged_images_are_refused(folder):
    names = [f"train/ant/00{i}{s}" for i, s in enumerate([".png", ".PNG", ".Png", ".png", ".PNG"])]
    spoil(folder, names)
    with pytest.raises(UserError, match="5 of 200 images cannot be read, more than 1%") as error:
        ready(images(folder))
    assert all(name in str(error.value) for name in names)
    assert not list((folder / ".kd_cache").glob("*.safetensors*tmp"))


def test_only_ten_damaged_images_are_named(folder):
    spoil(folder, [f"test/{path.parent.name}/{path.name}" for path in folder.glob("test/*/*")])
    with pytest.raises(UserError, match="60 of 200") as error:
        ready(images(folder))
    assert str(error.value).count("\n- ") == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"image_size": 0}, "image_size must be ≥ 1"), ({"workers": 0}, "workers must be ≥ 1")],
)
def test_folder_arguments_are_checked(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        images(folder, **settings)


def test_quiet_logs(folder, caplog):
    with caplog.at_level(logging.INFO):
        ready(images(folder))
    assert caplog.messages == ["decoding 200 images, once"]
