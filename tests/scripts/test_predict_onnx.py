"""The example that classifies with an ONNX file and without `kd`."""

import csv
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from commands import ROOT
from image_files import picture
from linear_onnx import linear_onnx
from PIL import Image

from kd.deploy.prediction.image_batches import ImageBatches
from kd.deploy.prediction.image_files import ImageFiles
from kd.deploy.prediction.predictions import predict
from kd.deploy.prediction.predictor import open_predictor

# Runs a script as `python script` does, where torch and kd cannot be imported.
ALONE = """
import runpy, sys
for name in ("torch", "kd", "hydra", "lightning", "torchvision", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def alone(folder, *arguments):
    script = ROOT / "scripts" / "examples" / "predict_onnx.py"
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(script), *map(str, arguments)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def save_images(folder):
    """Images of many formats and sizes, three of 12 bits, one broken."""
    folder.mkdir()
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "1", "LA", "CMYK")):
        for size in ((8, 8), (20, 14), (90, 200)):
            kind = "jpg" if mode == "CMYK" else "png"
            picture(number, size).convert(mode).save(folder / f"{mode}{size[0]}.{kind}")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(7, (90, 200)).save(folder / "turned.jpg", exif=turned)
    values = np.random.default_rng(0).integers(0, 4096, (3, 12, 12), dtype=np.uint16)
    for number, image in enumerate(values):
        Image.fromarray(image >> number).save(folder / f"deep{number}.png")
    Image.fromarray(values[0] / np.float32(4096)).save(folder / "float.tif")
    (folder / "broken.png").write_bytes(b"not an image")


@pytest.mark.parametrize("channels", [1, 3])
def test_classes_and_probabilities_are_those_of_kd_predict(channels, tmp_path):
    save_images(tmp_path / "photos")
    file = linear_onnx(tmp_path / "model.onnx", channels=channels)
    done = alone(tmp_path, "model.onnx", "photos", "--output", "a.csv", "--batch-size", "7")
    assert done.returncode == 2, done.stderr
    assert "skipped: photos/broken.png" in done.stderr
    with (tmp_path / "a.csv").open(newline="") as table:
        found = {row["image"]: row for row in csv.DictReader(table)}

    predictor: Any = open_predictor(file)
    batches = ImageBatches(ImageFiles([tmp_path / "photos"]), predictor.target(64), 5)
    scale = batches.survey(True, lambda n: None).peaks.scale()
    assert scale.bits == 12
    images = batches.decoded(scale, lambda *_: None, lambda n: None)
    expected: list[Any] = list(predict(predictor, images, 1))
    assert len(expected) == len(found) == 26
    for each in expected:
        row = found[f"photos/{each.sample.name}"]
        name = predictor.class_names[each.classes[0].label]
        assert row["class"].lstrip("'") == name
        assert float(row["probability"]) == pytest.approx(each.classes[0].probability, abs=1e-6)


def test_a_mistake_is_one_line(tmp_path):
    done = alone(tmp_path, "missing.onnx", ".")
    assert (done.returncode, done.stderr) == (1, "error: there is no missing.onnx\n")
