"""mAP of detections, against the definition, and a plain message where a package is missing."""

import numpy as np
import pytest
import torch

from kd.errors import UserError
from kd.models.boxes import Detections
from kd.tasks import detection, task_named
from kd.tasks.detection import DetectionFigures


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - common)


def average_precision(found, truth, threshold):
    """COCO's: precision at 101 recalls of detections (image, score, box) of one class."""
    hits, used = [], set()
    for image, _, box in sorted(found, key=lambda d: -d[1]):
        free = [(iou(box, other), n) for n, other in truth if n[0] == image and n not in used]
        best = max(free, default=(0, None))
        hits.append(best[0] >= threshold)
        if hits[-1]:
            used.add(best[1])
    true = np.cumsum(hits)
    precision, recall = true / np.arange(1, len(hits) + 1), true / len(truth)
    points = (precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101))
    return np.mean(list(points))


def test_figures_are_cocos():
    random = np.random.default_rng(0)
    target, found, figures = np.full((8, 3, 5), -1.0), [], DetectionFigures()
    for image in range(8):
        boxes, scores, labels = [], [], []
        for row in range(random.integers(0, 4)):
            corner, side = random.uniform(0, 30, 2), random.uniform(8, 20, 2)
            target[image, row] = random.integers(0, 3), *corner, *(corner + side)
            for _ in range(random.integers(0, 3)):
                boxes.append(target[image, row, 1:] + random.normal(0, 1.5, 4))
                scores.append(random.uniform())
                labels.append(int(target[image, row, 0]))
        found.append((boxes, scores, labels))
    as_tensors: list[Detections] = [
        {
            "boxes": torch.tensor(np.array(boxes).reshape(-1, 4)).float(),
            "scores": torch.tensor(scores).float(),
            "labels": torch.tensor(labels).long(),
        }
        for boxes, scores, labels in found
    ]
    for part in (slice(0, 5), slice(5, 8)):
        figures.update(as_tensors[part], torch.tensor(target[part]).float())
    by_threshold = []
    for threshold in np.arange(0.5, 1, 0.05):
        values = []
        for label in range(3):
            truth = [((i, r), target[i, r, 1:]) for i, r in np.argwhere(target[..., 0] == label)]
            own = [
                (image, s, b)
                for image, parts in enumerate(found)
                for b, s, k in zip(*parts, strict=True)
                if k == label
            ]
            values.append(average_precision(own, truth, threshold))
        by_threshold.append(np.mean(values))
    result = figures.compute()
    assert result["map"].item() == pytest.approx(np.mean(by_threshold), abs=2e-3)
    assert result["map50"].item() == pytest.approx(by_threshold[0], abs=2e-3)
    assert 0.2 < by_threshold[0] < 0.95
    assert figures.compute() == {}


def test_nothing_found_is_zero():
    figures = DetectionFigures()
    nothing: Detections = {
        "boxes": torch.zeros(0, 4),
        "scores": torch.zeros(0),
        "labels": torch.zeros(0).long(),
    }
    figures.update([nothing], torch.tensor([[[1.0, 1, 1, 5, 5]]]))
    assert figures.compute() == {"map": 0, "map50": 0}


def test_missing_package(monkeypatch):
    monkeypatch.setattr(detection, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"faster-coco-eval.*pip install -e '.\[detection\]'"):
        task_named("detection").evaluation(3)
