"""Every figure is documented, and every documented figure exists."""

from pathlib import Path

import torch

from kd.deploy.evaluation import keys
from kd.deploy.evaluation.calibration import calibration
from kd.deploy.evaluation.fidelity import fidelity
from kd.deploy.evaluation.keys import KEYS, key, markdown_table
from kd.deploy.evaluation.predictions import Predictions
from kd.deploy.evaluation.quality import quality
from kd.deploy.evaluation.robustness import robustness
from kd.models.boxes import Detections
from kd.tasks.detection import DetectionFigures


def test_the_table_has_exactly_the_figures():
    logits, targets = torch.eye(3), torch.arange(3)
    own = Predictions(logits, targets)
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    corrupted = robustness({"net": lambda x: x.float().flatten(1)[:, :3]}, images, targets)["net"]
    detections = DetectionFigures()
    box = torch.tensor([[2.0, 2.0, 9.0, 9.0]])
    one: Detections = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([0])}
    detections.update([one], torch.tensor([[[0.0, 2.0, 2.0, 9.0, 9.0]]]))
    parts = [
        quality(logits, targets).figures(),
        calibration(logits, targets).figures(),
        fidelity(own, own).figures(),
        corrupted.figures(),
        detections.compute(),
    ]
    figures = {name: value for part in parts for name, value in part.items()}
    assert len(figures) == sum(map(len, parts))
    assert all(key(name) is not None for name in figures)
    patterns = {name for name in KEYS if "CORRUPTION" in name}
    assert KEYS.keys() - patterns <= figures.keys()
    assert key("acc/blur/4") is None
    assert key("test/acc") is None
    assert all(f"| `{name}` |" in markdown_table() for name in KEYS)
    assert all(row.count("|") == 4 for row in markdown_table().splitlines() if "|" in row)


def test_the_readme_has_the_table():
    assert f"\n\n{markdown_table()}\n\n" in Path(keys.__file__).with_name("README.md").read_text()
