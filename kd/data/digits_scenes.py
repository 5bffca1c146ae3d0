"""Data module of scenes composed of handwritten digits: detection without a download."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.detection import DetectionDataModule, padded_rows
from kd.data.digits import Digits
from kd.data.scenes import SceneSettings, compose_scenes
from kd.data.splits import stratified_split
from kd.data.vision import MNIST

_SPLITS = ("train", "val", "test")
_VAL_DIGITS = 0.15  # of the training digits; they appear in validation scenes alone
SOURCES = ("digits", "mnist")


class DigitsScenes(DetectionDataModule):
    """Grey scenes with one to some digits each, and the box of the ink of each digit.

    A digit appears in the scenes of one split alone: those of test scenes are the source's test
    digits, and a stratified part of its training digits makes the validation scenes.

    Args:
        source: `digits`, scikit-learn's 8×8 digits, which need no download, or `mnist`.
        size: height and width of a scene in pixels.
        scenes: number of scenes by split, `train`, `val` and `test`.
        digits: least and largest number of digits of a scene.
        digit_size: least and largest side in pixels that a digit is scaled to; its ink is smaller.
        overlap: largest share of the smaller of two boxes that the other one covers.
        scene_seed: of the composition, the same for all runs.
        root: folder of MNIST's files; unused with `source=digits`.
        download: download MNIST if it is missing.
        **common: as `DetectionDataModule`; val_fraction is unused.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        source: str = "digits",
        size: int = 64,
        scenes: Mapping[str, int],
        digits: Sequence[int] = (1, 4),
        digit_size: Sequence[int] = (14, 44),
        overlap: float = 0.3,
        scene_seed: int = 0,
        root: str = "data",
        download: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if source not in SOURCES:
            raise ValueError(f"source must be one of {list(SOURCES)}, got {source!r}")
        if set(scenes) != {*_SPLITS} or not all(_whole(n, 1) for n in scenes.values()):
            raise ValueError(f"scenes must be ≥ 1 for each of {_SPLITS}, got {dict(scenes)}")
        _check_range("digits", digits, 0)
        _check_range("digit_size", digit_size, 8)
        if not _whole(size, digit_size[1]):
            raise ValueError(f"size must be ≥ digit_size, {digit_size[1]}, got {size!r}")
        if not 0 <= overlap <= 1:
            raise ValueError(f"overlap must be in [0, 1], got {overlap!r}")
        if not 0 <= scene_seed < 2**63:
            raise ValueError(f"scene_seed must be ≥ 0 and below 2**63, got {scene_seed!r}")
        self.source, self.scenes, self.scene_seed = source, dict(scenes), scene_seed
        sides = (digit_size[0], digit_size[1])
        self.settings = SceneSettings(size, (digits[0], digits[1]), sides, overlap)
        options: dict[str, Any] = {"name": source, "batch_size": 1}
        self._digits: ImageDataModule = (
            Digits(**options)
            if source == "digits"
            else MNIST(root=root, download=download, **options)
        )

    def fetch(self) -> None:
        self._digits.fetch()

    def load(self) -> Arrays:
        found = self._digits.load()
        own, val = stratified_split(found.train_targets, _VAL_DIGITS, seed=0)
        pool = found.train_inputs, found.train_targets
        parts = {
            "train": (pool[0][own], pool[1][own]),
            "val": (pool[0][val], pool[1][val]),
            "test": (found.test_inputs, found.test_targets),
        }
        fields: dict[str, Any] = {}
        for number, split in enumerate(_SPLITS):
            inputs, targets = self._compose(*parts[split], split, number)
            fields |= {f"{split}_inputs": inputs, f"{split}_targets": targets}
        return Arrays(class_names=found.class_names, **fields)

    def _compose(
        self, digits: Tensor, labels: Tensor, split: str, number: int
    ) -> tuple[Tensor, Tensor]:
        """Scenes uint8 [N, 1, size, size] and targets [N, M, 5] from digits [D, 1, H, W]."""
        scenes, rows = compose_scenes(
            digits[:, 0].numpy(),
            labels.numpy(),
            self.scenes[split],
            self.settings,
            [self.scene_seed, number],
        )
        most = max(1, self.settings.digits[1])
        return torch.from_numpy(scenes), padded_rows(rows, most)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_range(name: str, pair: Sequence[int], least: int) -> None:
    """Refuse anything but two whole numbers, the first at most the second.

    Raises:
        ValueError: with the name, the value and the least number.
    """
    if len(pair) != 2 or not all(_whole(n, least) for n in pair) or pair[0] > pair[1]:
        raise ValueError(f"{name} must be two whole numbers ≥ {least} in order, got {list(pair)!r}")
