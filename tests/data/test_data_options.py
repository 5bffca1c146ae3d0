"""The options of `data=`: they build, and their numbers are right."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from small_data import ready

from kd.config.compose import CONF_DIR, register_models
from kd.data.splits import channel_statistics

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize(("name", "rows"), [("digits", None), pytest.param("mnist", None)])
def test_the_numbers_in_the_yaml_are_those_of_the_training_images(name, rows):
    if name == "mnist" and "KD_DATA_DIR" not in os.environ:
        pytest.skip("KD_DATA_DIR is not set")
    data = ready(from_config(name))
    pool = data.arrays.train_inputs
    mean, std = channel_statistics(pool, torch.arange(len(pool)))
    torch.testing.assert_close(data.split.mean, mean, rtol=0, atol=6e-5)
    torch.testing.assert_close(data.split.std, std, rtol=0, atol=6e-5)


def from_config(name: str, *overrides: str):
    # With the groups that data of another task override: their nets and optimizer
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"data={name}", *overrides])
    return instantiate(config.data, _convert_="all")


# `external` describes data that are not of kd
NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "external")


ROOT = {name: ["data.root=/nowhere"] for name in ("image_folder", "coco")}


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_and_names_its_command(name):
    data = from_config(name, *ROOT.get(name, []))
    assert data.name == name
    text = (CONF / "data" / f"{name}.yaml").read_text()
    assert f"# python -m kd.train data={name}" in text


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("text", "coco", "digits_scenes")])
@pytest.mark.parametrize(
    ("view", "expected"), [("none", "Identity()"), ("shift", "Shift(pixels=1)"),
                           ("crop_flip", "CropFlip(padding=4)")],
)  # fmt: skip
def test_every_data_set_takes_every_view_space(name, view, expected):
    assert repr(from_config(name, *ROOT.get(name, []), f"data/view={view}").view) == expected


def test_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("KD_DATA_DIR", "/somewhere")
    assert from_config("cifar10").root == Path("/somewhere")
    monkeypatch.delenv("KD_DATA_DIR")
    assert from_config("mnist").root == Path("data")
