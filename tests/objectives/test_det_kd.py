"""Detection's own terms: against plain formulas, with real detectors, and by their effect."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from torch import nn

from kd.errors import UserError
from kd.models.detector import Detector
from kd.models.faster_rcnn import FasterRCNN
from kd.models.tiny_detector import TinyDetector
from kd.models.torchvision_detector import torchvision_detector
from kd.objectives.det_kd import DetectionKD
from kd.objectives.detection_loss import DetectionLoss
from kd.objectives.setting import Setting
from kd.types import Outputs

SIZE = 32  # 4² cells of 8 pixels
SETTINGS = {"temperature": 2.0, "threshold": 0.3, "box_weight": 50.0, "box_beta": 0.1}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tiny_boxes(predictions, classes):
    """Boxes [B, 16, 4] of a TinyDetector, with cell (row, column) at pixel 8 · (column, row)."""
    centres = np.array([(8.0 * x, 8.0 * y) for y in range(4) for x in range(4)])
    sides = 8 * np.log1p(np.exp(predictions[..., classes : classes + 4]))
    return np.concatenate([centres - sides[..., :2], centres + sides[..., 2:]], -1)


def bernoulli_kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


class TestDetectionKD(Contract):
    """Two tiny detectors, which have the same cells."""

    batch: ClassVar = 3

    def outputs(self, shapes, batch, classes, scale=1.0):
        return Outputs(2 * scale * torch.randn(batch, 16, classes + 5), {})

    def setting(self, classes):
        nets = [TinyDetector(1, SIZE, classes, width=0.1) for _ in range(2)]
        targets = torch.arange(self.pool) % classes
        return Setting(classes, targets, image_size=(SIZE, SIZE), student_net=nets[0],
                       teacher_net=nets[1])  # fmt: skip

    def make(self):
        return DetectionKD(**SETTINGS)

    def reference(self, student, teacher, target, objective):
        classes = student.logits.shape[2] - 5
        ours, theirs = (tiny_boxes(net.logits, classes) for net in (student, teacher))
        total, count = 0.0, 0
        for b, i in np.ndindex(ours.shape[:2]):
            logits, own = teacher.logits[b, i, :classes], student.logits[b, i, :classes]
            confidence = sigmoid(teacher.logits[b, i, -1])
            if max(math.sqrt(sigmoid(t) * confidence) for t in logits) <= 0.3:
                continue
            count += 1
            pairs = zip(logits, own, strict=True)
            total += 4 * sum(bernoulli_kl(sigmoid(t / 2), sigmoid(s / 2)) for t, s in pairs)
            for difference in abs(ours[b, i] - theirs[b, i]) / SIZE:
                quadratic = difference**2 / 0.2
                total += 50 * (quadratic if difference < 0.1 else difference - 0.05)
        return total / count


class Fixed(Detector):
    """A two-stage detector whose predictions are given."""

    def forward(self, images):
        return images

    def loss(self, predictions, target):
        return predictions.sum()

    def decode(self, predictions):
        return predictions[..., :4], predictions[..., 4:]


def built(objective, student, teacher, predictions):
    targets, images = torch.zeros(4, dtype=torch.long), torch.zeros(2, 1, SIZE, SIZE)
    setting = Setting(2, targets, None, None, (SIZE, SIZE), None, student, teacher)
    outputs = Outputs(student(images), {})
    objective.build(outputs, Outputs(predictions, {}), setting)
    return objective, outputs


def test_a_two_stage_teachers_detection_is_learnt_by_the_cells_near_its_centre():
    student, teacher = TinyDetector(1, SIZE, 2, width=0.1), Fixed(SIZE, 2)
    predictions = torch.tensor([[[1.0, 1, 23, 15, 4, -4], [0, 0, 32, 32, -3, -3]]]).expand(
        2, -1, -1
    )
    objective, _ = built(DetectionKD(), student, teacher, predictions)
    found, confident = objective._assigned(predictions)
    assert confident[0].view(4, 4).int().tolist() == [[0] * 4, [0, 1, 1, 0], [0] * 4, [0] * 4]
    assert found.boxes[0, 5].tolist() == [1, 1, 23, 15]
    assert found.logits[0, 5].tolist() == [4, -4]


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "ssdlite", "faster_rcnn", "tiny"])
def test_every_pair_of_detectors_has_a_finite_term_and_gradient(kind):
    torch.manual_seed(0)
    teacher: nn.Module = TinyDetector(1, SIZE, 2)
    if kind == "faster_rcnn":
        teacher = FasterRCNN(1, SIZE, 2, backbone="resnet18", channels=32, hidden=16)
    elif kind != "tiny":
        teacher = torchvision_detector(1, SIZE, 2, arch=kind, backbone="resnet18", channels=32)
    predictions = teacher.eval()(torch.randn(2, 1, SIZE, SIZE)).detach()
    students: list[nn.Module] = [TinyDetector(1, SIZE, 2, width=0.1)]
    students.append(torchvision_detector(1, SIZE, 2, arch="fcos", backbone="resnet18", channels=32))
    for student in students:
        objective, outputs = built(DetectionKD(threshold=0.0), student, teacher, predictions)
        loss = objective(outputs, Outputs(predictions, {}), None)
        loss.backward()
        assert loss.isfinite()
        if student is students[0] and kind in ("ssdlite", "faster_rcnn"):
            assert loss > 0  # the others are unsure of everything, or of what no place learns


def test_the_teachers_boxes_and_classes_are_learnt_without_labels():
    torch.manual_seed(0)
    images = torch.randn(8, 1, SIZE, SIZE)
    student, teacher = (TinyDetector(1, SIZE, 2, width=0.5) for _ in range(2))
    nn.init.normal_(teacher.head.weight, std=0.3)
    predictions = teacher(images).detach()
    objective, _ = built(DetectionKD(threshold=0.2), student, teacher, predictions)

    def distance(outputs):
        mine, theirs = student.decode(outputs), teacher.decode(predictions)
        _, confident = objective._assigned(predictions)
        assert confident.sum() > 5
        return [(a - b).abs()[confident].mean().item() for a, b in zip(mine, theirs, strict=True)]

    before = distance(student(images))
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        objective(Outputs(student(images), {}), Outputs(predictions, {}), None).backward()
        optimizer.step()
    after = distance(student(images))
    assert after[0] < before[0] / 2
    assert after[1] < before[1] / 2


def test_students_without_places_are_refused_and_ensembles_too():
    student = Fixed(SIZE, 2)
    images = torch.zeros(2, 3, 6)
    setting = Setting(2, torch.zeros(4), None, None, (SIZE, SIZE), None, student, student)
    with pytest.raises(UserError, match="det_kd compares places, and the student, Fixed, has none"):
        DetectionKD().build(Outputs(images, {}), Outputs(images, {}), setting)
    with pytest.raises(UserError, match="the student is an ensemble"):
        DetectionLoss().build(
            Outputs(images, {}), Outputs(images, {}), setting._replace(student_net=None)
        )


def test_detection_loss_is_the_nets():
    torch.manual_seed(0)
    student = TinyDetector(1, SIZE, 2, width=0.1)
    objective, outputs = built(DetectionLoss(), student, student, torch.zeros(2, 16, 7))
    target = torch.tensor([[[1.0, 4, 4, 20, 20]], [[-1, 0, 0, 0, 0]]])
    batch = make_batch(target, torch.arange(2))
    assert objective(outputs, outputs, batch).item() == student.loss(outputs.logits, target).item()
    assert not list(objective.parameters())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 2}, r"threshold must be in \[0, 1\], got 2"),
        ({"box_weight": -1}, "box_weight must be ≥ 0, got -1"),
        ({"box_beta": 0}, "box_beta must be > 0, got 0"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        DetectionKD(**setting)
