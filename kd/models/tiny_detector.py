"""A detector of three strided convolutions and one head, for devices with little memory.

Every cell of the last map, of 8×8 pixels, predicts the classes, a box and a confidence. The losses
are those of FCOS (Tian, Shen, Chen & He 2019, https://arxiv.org/abs/1904.01355): focal loss of the
classes over all cells, generalised IoU of the boxes at cells near the centre of an object. The
confidence estimates the IoU of the box with the true one, as in Wu, Li & Wang 2020
(https://arxiv.org/abs/1912.05992), which ranks boxes better than FCOS's centre-ness.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.boxes import from_distances
from kd.models.detector import CENTRE_RADIUS, Detector, square_grid
from kd.models.layers import conv_bn_relu
from kd.models.sizing import check_image_size, scaled

STRIDE = 8
_CHANNELS = {"stage1": 32, "stage2": 64, "p3": 128}
_PRIOR = 0.05  # probability of a class at the start, so that the many empty cells cost little


class TinyDetector(Detector):
    """Three 3×3 convolutions of stride 2 and one 3×3 head: [B, C, S, S] -> [B, N, K + 5].

    A prediction is K class logits, four raw distances to the sides of the box, and a confidence.

    Args:
        in_channels: C.
        image_size: S.
        num_classes: K.
        width: factor of the channels 32, 64 and 128.
        score_threshold, nms_iou, max_detections: see `Detector`.

    Raises:
        UserError: `image_size` is below 8.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> net = TinyDetector(1, 64, 10)
        >>> net(torch.zeros(2, 1, 64, 64)).shape, count_parameters(net)
        (torch.Size([2, 64, 15]), 110191)
    """

    grid: Tensor

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        super().__init__(
            image_size,
            num_classes,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_detections=max_detections,
        )
        check_image_size("tiny_detector", image_size, STRIDE)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for name, channels in _CHANNELS.items():
            out_channels = scaled(channels, width)
            stages[name] = conv_bn_relu(in_channels, out_channels, stride=2)
            in_channels = out_channels
        self.features = nn.Sequential(stages)
        self.head = nn.Conv2d(in_channels, num_classes + 5, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.head.bias[:num_classes], -math.log(1 / _PRIOR - 1))  # type: ignore[index]
        self.cls, self.box = nn.Identity(), nn.Identity()  # taps
        self.register_buffer("grid", square_grid(image_size, STRIDE), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.head(self.features(images)).flatten(2).transpose(1, 2)
        logits, distances, confidence = raw.split([self.num_classes, 4, 1], dim=2)
        return torch.cat([self.cls(logits), self.box(distances), confidence], dim=2)

    def decode(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        logits, distances, _ = predictions.float().split([self.num_classes, 4, 1], dim=2)
        # softplus, unlike FCOS's ReLU, has a gradient for boxes that are too small
        return from_distances(F.softplus(distances) * STRIDE, self.grid[:, :2]), logits

    def scores(self, predictions: Tensor) -> Tensor:
        """Geometric mean of class probability and confidence."""
        logits, confidence = predictions[..., : self.num_classes], predictions[..., -1:]
        return (F.logsigmoid(logits.float()) + F.logsigmoid(confidence.float())).div(2).exp()

    def loss(self, predictions: Tensor, target: Tensor) -> Tensor:
        """Sum of classes, boxes and confidence, each divided by the number of cells with an object.

        Args:
            predictions: [B, N, K + 5].
            target: [B, M, 5].
        """
        from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

        boxes, logits = self.decode(predictions)
        label, truth = assign_cells(self.grid[:, :2], target.float(), CENTRE_RADIUS * STRIDE)
        positive = label >= 0
        count = positive.sum().clamp(min=1)
        wanted = F.one_hot(label.clamp(min=0), self.num_classes) * positive[..., None]
        classes = sigmoid_focal_loss(logits, wanted.to(logits), reduction="sum")
        overlap = 1 - generalized_box_iou_loss(boxes, truth)
        confidence = F.binary_cross_entropy_with_logits(
            predictions[..., -1].float(), overlap.detach().clamp(0, 1), reduction="none"
        )
        located = torch.where(positive, 1 - overlap + confidence, 0.0).sum()
        return (classes + located) / count


def assign_cells(centres: Tensor, target: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The object that each cell learns: of those that it lies in and near the centre of, the
    smallest, as in FCOS.

    Args:
        centres: [N, 2] of the cells.
        target: [B, M, 5].
        radius: largest distance to the centre of the box along each axis. The nearest cell of an
            object that would have none learns it as well, unless a smaller object has that cell.

    Returns:
        Labels [B, N] int64, −1 for none, and boxes [B, N, 4], where there is none those of a unit
        square at the cell.
    """
    boxes, real = target[:, None, :, 1:], target[:, None, :, 0] >= 0  # [B, 1, M, 4]
    place = centres[None, :, None]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (place - middle).abs().amax(-1)  # [B, N, M]
    inside = ((place > boxes[..., :2]) & (place < boxes[..., 2:])).all(-1)
    nearest = distance == distance.amin(1, keepdim=True)
    candidate = real & ((inside & (distance < radius)) | nearest)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    smallest, chosen = area.masked_fill(~candidate, math.inf).min(2)
    rows = target.gather(1, chosen[..., None].expand(-1, -1, 5))
    found = smallest < math.inf
    unit = torch.cat([centres - 0.5, centres + 0.5], 1)
    return (
        torch.where(found, rows[..., 0], -1.0).long(),
        torch.where(found[..., None], rows[..., 1:], unit),
    )
