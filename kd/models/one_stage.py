"""One-stage detectors of torchvision behind the interface of `kd.models.detector`.

Heads, anchors, matching and losses are torchvision's. Its preparation of images is left out: here
images are normalised, square and of one size already, and small ones (64 pixels) stay small.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from kd.models.boxes import from_deltas, from_distances, labelled, log_odds
from kd.models.detection_backbone import STRIDES
from kd.models.detector import Detector

_BOX, _CLASSES, _CENTRE = "bbox_regression", "cls_logits", "bbox_ctrness"
_LEVEL = (4, 8)  # strides of a box's farthest side on a level of FCOS, in torchvision and the paper
_FIT = 0.5  # IoU of an anchor with a box that it learns, as in RetinaNet and SSD


class OneStage(Detector):
    """A one-stage detector of torchvision: [B, C, S, S] -> [B, N, D].

    A prediction is the class logits, four raw numbers of the box, and what else the head has.

    Args:
        net: torchvision's detector; its `backbone`, `head`, anchors and losses are used.
        in_channels: C.
        image_size: S.
        num_classes: K.
        **options: see `Detector`.
    """

    net: Any
    anchors: Tensor

    def __init__(
        self, net: Any, in_channels: int, image_size: int, num_classes: int, **options: Any
    ) -> None:
        super().__init__(image_size, num_classes, **options)
        net.transform = None
        self.net = net
        self.cls, self.box = nn.Identity(), nn.Identity()  # taps
        anchors, self.level_sizes = _anchors(net, in_channels, image_size)
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("grid", _grid(anchors, self.level_sizes, image_size), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        found = self.net.head(list(self.net.backbone(images).values()))
        parts = [self.cls(found[_CLASSES]), self.box(found[_BOX])]
        return torch.cat(parts + [found[k] for k in (_CENTRE,) if k in found], dim=2)

    def parts(self, predictions: Tensor) -> dict[str, Tensor]:
        """Split predictions [B, N, D] into torchvision's outputs of the head, in float32."""
        extra = int(isinstance(self.net, FCOS))
        sizes = [predictions.shape[2] - 4 - extra, 4, extra]
        classes, boxes, centre = predictions.float().split(sizes, dim=2)
        return {_CLASSES: classes, _BOX: boxes} | ({_CENTRE: centre} if extra else {})

    def loss(self, predictions: Tensor, target: Tensor) -> Tensor:
        """Sum of torchvision's losses, each divided by the number of matched places."""
        truth = labelled(target, first_label=int(isinstance(self.net, SSD)))
        anchors = [self.anchors] * len(truth)
        extra: list[Any] = []
        if isinstance(self.net, FCOS):
            extra = [self.level_sizes]
        if isinstance(self.net, SSD):
            extra = [[self._matched(image["boxes"]) for image in truth]]
        losses = self.net.compute_loss(truth, self.parts(predictions), anchors, *extra)
        return torch.stack([value.float() for value in losses.values()]).sum()

    def _matched(self, boxes: Tensor) -> Tensor:
        if not len(boxes):
            return self.anchors.new_full((len(self.anchors),), -1, dtype=torch.int64)
        return self.net.proposal_matcher(box_iou(boxes, self.anchors))

    def decode(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.parts(predictions)
        if isinstance(self.net, FCOS):
            sides = (self.anchors[:, 2:] - self.anchors[:, :2]).repeat(1, 2)
            centres = (self.anchors[:, 2:] + self.anchors[:, :2]) / 2
            return from_distances(parts[_BOX] * sides, centres), parts[_CLASSES]
        boxes = from_deltas(parts[_BOX], self.anchors, self.net.box_coder.weights)
        if isinstance(self.net, SSD):  # softmax over background and classes
            return boxes, log_odds(F.log_softmax(parts[_CLASSES], dim=2)[..., 1:])
        return boxes, parts[_CLASSES]

    def scores(self, predictions: Tensor) -> Tensor:
        """Class probabilities; FCOS's are the geometric mean with the centre-ness."""
        scores = super().scores(predictions)
        centre = self.parts(predictions).get(_CENTRE)
        return scores if centre is None else (scores * centre.sigmoid()).sqrt()

    def accepts(self, boxes: Tensor) -> Tensor:
        if isinstance(self.net, FCOS):
            return super().accepts(boxes) & self._on_level(boxes)
        low = torch.maximum(boxes[..., :2], self.anchors[:, :2])
        high = torch.minimum(boxes[..., 2:], self.anchors[:, 2:])
        common = (high - low).clamp(min=0).prod(-1)
        areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, self.anchors)]
        return common >= _FIT * (areas[0] + areas[1] - common)

    def _on_level(self, boxes: Tensor) -> Tensor:
        """Whether FCOS learns a box on the level of its place: by the farthest side, in strides."""
        assert self.grid is not None
        places, stride = self.grid[:, :2], self.grid[:, 2]
        sides = torch.cat([places - boxes[..., :2], boxes[..., 2:] - places], -1).amax(-1) / stride
        above = (sides > _LEVEL[0]) | (stride == STRIDES[0])
        return above & ((sides < _LEVEL[1]) | (stride == STRIDES[-1]))


@torch.no_grad()
def _anchors(net: Any, in_channels: int, size: int) -> tuple[Tensor, list[int]]:
    """Anchors [N, 4] of all levels, and their number on each."""
    images = torch.zeros(1, in_channels, size, size)
    maps = list(net.eval().backbone(images).values())
    net.train()
    anchors = net.anchor_generator(ImageList(images, [(size, size)]), maps)[0]
    cells = [m.shape[2] * m.shape[3] for m in maps]
    a_place = net.anchor_generator.num_anchors_per_location()
    return anchors, [count * a for count, a in zip(cells, a_place, strict=True)]


def _grid(anchors: Tensor, level_sizes: list[int], image_size: int) -> Tensor:
    """Places of the anchors; see `Detector.grid`."""
    centres = (anchors[:, 2:] + anchors[:, :2]) / 2
    rows = []
    for stride, size in zip(STRIDES, level_sizes, strict=True):
        number = torch.arange(size) % (size // (image_size // stride) ** 2)
        rows.append(torch.stack([torch.full((size,), float(stride)), number.float()], 1))
    return torch.cat([centres, torch.cat(rows)], 1)
