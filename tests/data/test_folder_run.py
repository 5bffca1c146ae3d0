"""A run on a folder of images as people have them, from the command line."""

import json

import numpy as np
import pytest
from PIL import Image

SUFFIXES = ("png", "webp", "bmp", "tif", "jfif", "jpg")


@pytest.mark.slow
def test_a_mixed_folder_without_a_test_set_trains(train, tmp_path):
    root, draw = tmp_path / "pets", np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "emu")):
        for number in range(20):
            suffix = SUFFIXES[number % len(SUFFIXES)]
            folder = root / name / ("2019" if number % 2 else ".")
            folder.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x112] = 6 if suffix == "jpg" else 1
            colour = np.array([60 * label, 90, 180 - 60 * label]) + draw.integers(
                0, 60, (20, 20, 3)
            )
            kind = "JPEG" if suffix == "jfif" else None
            path = folder / f"{number}.{suffix}"
            Image.fromarray(colour.astype(np.uint8)).save(path, kind, exif=exif)
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    (root / "dog" / "notes.txt").write_text("one of them bites")
    options = f"data.root={root}", "data.name=pets", "data.image_size=16", "method=ce"
    done = train("data=image_folder", *options, "student=resnet8", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    (line,) = [line for line in said.splitlines() if "left out" in line]
    assert "of 60 images in 3 classes, 12 are the test set (data.test_fraction=0.2" in line
    assert "1 damaged (cat/gone.png (broken link)), 1 .txt (dog/notes.txt)" in line
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["test/images"], result["limited"]) == ("completed", 12, [])
