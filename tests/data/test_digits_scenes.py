"""Scenes of digits: exact boxes, digits of one split in that split alone, reproducible draws."""

import logging
from typing import Any

import numpy as np
import pytest
import torch

from kd.data.digits import Digits
from kd.data.digits_scenes import DigitsScenes
from kd.data.scenes import INK, SceneSettings, compose_scenes
from kd.data.views import Shift

SMALL = {"train": 12, "val": 6, "test": 8}


def scenes(**settings):
    data = DigitsScenes(name="x", batch_size=4, **{"scenes": SMALL, **settings})
    data.prepare_data()
    data.setup()
    return data


def compose(count, seed=0, **settings):
    digits = np.random.default_rng(1).integers(0, 255, (20, 8, 8)).astype(np.uint8)
    how = SceneSettings(**{"size": 48, "digits": (1, 4), "digit_size": (8, 20), "overlap": 0.0,
                           **settings})  # fmt: skip
    return compose_scenes(digits, np.arange(20) % 10, count, how, [seed])


def test_boxes_hold_all_ink_and_touch_it_on_every_side():
    images, rows = compose(30)
    for image, boxes in zip(images[:, 0], rows, strict=True):
        outside = image.copy()
        for _, x1, y1, x2, y2 in boxes.astype(int):
            box = image[y1:y2, x1:x2]
            assert all(edge.max() >= INK for edge in (box[0], box[-1], box[:, 0], box[:, -1]))
            outside[y1:y2, x1:x2] = 0
        assert outside.max() == 0
        assert 1 <= len(boxes) <= 4


def test_overlap_is_bounded_and_used():
    _, rows = compose(60, overlap=0.3, digits=(4, 4))
    shares = []
    for boxes in rows:
        for i, j in zip(*np.triu_indices(len(boxes), 1), strict=True):
            a, b = boxes[i, 1:], boxes[j, 1:]
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
            shares.append(max(0, width) * max(0, height) / min(areas))
    assert 0.15 < max(shares) <= 0.3


def test_equal_seeds_give_equal_scenes():
    first, again, other = compose(3), compose(3), compose(3, seed=1)
    assert (first[0] == again[0]).all()
    assert all((a == b).all() for a, b in zip(first[1], again[1], strict=True))
    assert (first[0] != other[0]).any()


def test_data_module_and_its_batches(caplog):
    with caplog.at_level(logging.WARNING):
        data = scenes()
    assert data.task == "detection"
    assert data.num_samples == SMALL | {"pool": 12}
    assert data.class_names == list("0123456789")
    assert data.net_arguments == {"in_channels": 1, "image_size": 64, "num_classes": 10}
    assert "classes have no validation box" in caplog.text
    batch = next(iter(data.val_dataloader()))
    assert batch.target.shape == (6, 4, 5)
    assert batch.target.dtype == torch.float32
    assert scenes(seed=5).fingerprint == data.fingerprint
    assert scenes(scene_seed=1).fingerprint != data.fingerprint


def test_a_digit_is_in_the_scenes_of_one_split_alone(monkeypatch):
    drawn: list[Any] = []

    def compose(digits: Any, *rest: Any) -> Any:
        drawn.append(digits)
        return compose_scenes(digits, *rest)

    monkeypatch.setattr("kd.data.digits_scenes.compose_scenes", compose)
    scenes()
    splits = [{digit.tobytes() for digit in digits} for digits in drawn]
    source = Digits(name="digits", batch_size=1).load()
    assert splits[2] == {digit.numpy().tobytes() for digit in source.test_inputs[:, 0]}
    assert not splits[0] & splits[1]
    assert not (splits[0] | splits[1]) & splits[2]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"source": "letters"}, "source must be one of .*, got 'letters'"),
        ({"scenes": {"train": 3, "val": 0, "test": 1}}, "scenes must be ≥ 1 for each of"),
        ({"digits": [3, 1]}, r"digits must be two whole numbers ≥ 0 in order, got \[3, 1\]"),
        ({"digit_size": [2, 10]}, r"digit_size must be two whole numbers ≥ 8 in order"),
        ({"size": 20}, "size must be ≥ digit_size, 44, got 20"),
        ({"overlap": 2}, r"overlap must be in \[0, 1\], got 2"),
        ({"view": Shift(1)}, "Shift changes images and not their boxes; detection takes"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        DigitsScenes(name="x", batch_size=4, **{"scenes": SMALL, **setting})
