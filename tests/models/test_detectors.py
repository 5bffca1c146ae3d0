"""Detectors: against torchvision's own preparation, losses and post-processing, and by effect."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from model_configs import DETECTORS, build, config, taps_of
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from kd.errors import UserError
from kd.models.boxes import labelled
from kd.models.detector import Detector
from kd.models.tiny_detector import TinyDetector, assign_cells

SMALL: dict[str, dict[str, Any]] = {"fcos": {"channels": 32}, "retinanet": {"channels": 32}}
SMALL["faster_rcnn"] = {"channels": 32, "hidden": 32, "proposals": 10}
TARGET = torch.full((3, 2, 5), -1.0)
TARGET[0] = torch.tensor([[3, 10, 10, 30, 34], [1, 40.5, 2, 60, 20.5]])
TARGET[1, 1] = torch.tensor([0.0, 0, 8, 50, 64])


def detector(name: str, classes: int = 5) -> Detector:
    torch.manual_seed(0)
    small = next((v for k, v in SMALL.items() if name.startswith(k)), {})
    net = build(name, in_channels=1, size=64, classes=classes, **small)
    assert isinstance(net, Detector)
    return net


def images(seed: int = 1) -> Tensor:
    return torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DETECTORS)
def test_predictions_taps_and_losses(name: str) -> None:
    net = detector(name)
    predictions, taps = taps_of(name, net, images())
    boxes, logits = net.decode(predictions)
    places = predictions.shape[1]
    assert boxes.shape == (3, places, 4)
    assert logits.shape == net.scores(predictions).shape == (3, places, 5)
    assert boxes.isfinite().all()
    assert logits.isfinite().all()
    for level, side in {"p3": 8, "p4": 4, "p5": 2}.items():
        assert level not in taps or taps[level].shape[2:] == (side, side)
    loss = net.loss(predictions, TARGET)
    assert loss.dim() == 0
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    copy.deepcopy(net)
    if net.grid is not None:
        assert net.grid.shape == (places, 4)


@pytest.mark.parametrize("name", DETECTORS)
def test_images_without_objects_and_half_precision(name: str) -> None:
    net = detector(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net.loss(net(images()), TARGET * 0 - 1)
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    found = net.eval().detections(net(images()).half())
    for image in found:
        assert (image["boxes"] >= 0).all()
        assert (image["boxes"] <= 64).all()
        assert (image["scores"].diff() <= 0).all()


@pytest.mark.parametrize("name", ["fcos_resnet18", "retinanet_resnet18", "ssdlite_resnet18"])
def test_losses_and_detections_are_torchvisions(name: str) -> None:
    """The whole of torchvision's detector, with a preparation that changes nothing."""
    net = detector(name)
    whole: Any = copy.deepcopy(net.net)
    whole.transform = GeneralizedRCNNTransform(64, 64, [0.0], [1.0], size_divisible=1)
    background = int(name.startswith("ssd"))
    truth = labelled(TARGET, first_label=background)
    theirs = whole(list(images()), copy.deepcopy(truth))
    torch.testing.assert_close(net.loss(net(images()), TARGET), sum(theirs.values()))

    whole.eval(), net.eval()
    whole.score_thresh, whole.nms_thresh = net.score_threshold, net.nms_iou
    whole.detections_per_img, whole.topk_candidates = net.max_detections, 1000
    for ours, other in zip(net.detections(net(images())), whole(list(images())), strict=True):
        torch.testing.assert_close(ours["scores"], other["scores"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours["boxes"], other["boxes"], atol=1e-3, rtol=1e-4)
        assert (ours["labels"] == other["labels"] - background).all()


def plain_cells(centres: np.ndarray, target: np.ndarray, radius: float) -> list[int]:
    """Row of the target that each cell learns, −1 for none, by loops."""
    chosen = []
    real = [j for j, row in enumerate(target) if row[0] >= 0]
    middles = {j: (target[j, 1:3] + target[j, 3:5]) / 2 for j in real}
    far = {j: np.abs(centres - middles[j]).max(1) for j in real}
    for i, (x, y) in enumerate(centres):
        own = []
        for j in real:
            _, x1, y1, x2, y2 = target[j]
            inside = x1 < x < x2 and y1 < y < y2 and far[j][i] < radius
            if inside or far[j][i] == far[j].min():
                own.append(((x2 - x1) * (y2 - y1), j))
        chosen.append(min(own)[1] if own else -1)
    return chosen


def test_cells_learn_the_smallest_object_near_whose_centre_they_are() -> None:
    random = np.random.default_rng(0)
    axis = np.arange(8) * 8.0
    centres = np.array([(x, y) for y in axis for x in axis])
    target = np.full((6, 4, 5), -1.0)
    for image in target:
        for row in image[: random.integers(0, 5)]:
            corner, side = random.uniform(0, 50, 2), random.uniform(3, 30, 2)
            row[:] = random.integers(0, 5), *corner, *(corner + side)
    label, boxes = assign_cells(torch.tensor(centres), torch.tensor(target), 12.0)
    for i, image in enumerate(target):
        expected = plain_cells(centres, image, 12.0)
        assert label[i].tolist() == [-1 if j < 0 else int(image[j, 0]) for j in expected]
        found = [n for n, j in enumerate(expected) if j >= 0]
        assert np.allclose(boxes[i][found], image[[expected[n] for n in found], 1:])


def test_tiny_detector_learns_where_squares_and_bars_are() -> None:
    torch.manual_seed(0)
    pictures, target = torch.zeros(16, 1, 48, 48), torch.full((16, 1, 5), -1.0)
    for i in range(16):
        width, height = (12, 12) if i % 2 else (20, 8)
        x, y = (int(v) for v in torch.randint(0, 28, (2,)))
        pictures[i, 0, y : y + height, x : x + width] = 1
        target[i, 0] = torch.tensor([i % 2, x, y, x + width, y + height])
    net = TinyDetector(1, 48, 2, width=0.5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        net.loss(net(pictures), target).backward()
        optimizer.step()
    best = [found["boxes"][0] for found in net.detections(net(pictures))]
    labels = [found["labels"][0] for found in net.detections(net(pictures))]
    assert (torch.stack(best) - target[:, 0, 1:]).abs().mean() < 1.5
    assert torch.stack(labels).tolist() == target[:, 0, 0].tolist()


def test_faster_rcnn_needs_its_forward_pass() -> None:
    net = detector("faster_rcnn_resnet18")
    predictions = net(images())
    net.loss(predictions, TARGET)
    with pytest.raises(RuntimeError, match="forward pass on the same images"):
        net.loss(predictions, TARGET)


@pytest.mark.parametrize("name", ["fcos_resnet18", "faster_rcnn_resnet18"])
def test_sizes_that_do_not_suit(name: str) -> None:
    with pytest.raises(UserError, match=r"multiple of 32, got 48; set .* 32 or 64, or take"):
        build(name, in_channels=1, size=48)
    with pytest.raises(UserError, match=r"'resnet19' has no known maps; did you mean 'resnet18'"):
        build(name, in_channels=1, size=64, backbone="resnet19")


def test_config_names_every_tap() -> None:
    assert all({"p3", "cls", "box"} <= config(name).taps.keys() for name in DETECTORS)
