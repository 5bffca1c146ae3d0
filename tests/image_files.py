"""Folders of small images for the tests of `data=image_folder`."""

import random
from pathlib import Path

import pytest
from PIL import Image

from kd.data import decode, image_folder
from kd.data.image_folder import ImageFolder


def picture(seed: int, size=(12, 12), mode="RGB") -> Image.Image:
    data = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    return Image.frombytes(mode, size, data)


def image_folder_in(tmp_path: Path) -> Path:
    """200 images: 3 classes of 50, 50, 40 in train and 20 each in test; PNG, so exact."""
    root = tmp_path / "images"
    seed = 0
    for split, counts in {"train": (50, 50, 40), "test": (20, 20, 20)}.items():
        for name, count in zip(("ant", "bee", "cat"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                suffix = (".png", ".PNG", ".Png")[number % 3]
                picture(seed).save(root / split / name / f"{number:03}{suffix}", format="PNG")
    return root


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call decoded."""
    calls = []

    def count(paths, *rest):
        calls.append(len(paths))
        return decode.decode_all(paths, *rest)

    monkeypatch.setattr(image_folder, "decode_all", count)
    return calls


def images(root, **settings):
    settings = {"image_size": 12, "cache_dir": f"{root}-elsewhere", **settings}
    return ImageFolder(root=str(root), name="images", batch_size=16, **settings)


def spoil(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        kinds = [b"", b"not an image", path.read_bytes()[:200], path.read_bytes()[:-40]]
        path.write_bytes(kinds[number % 4])
