"""Faster R-CNN of torchvision, whose predictions are its final detections.

Ren, He, Girshick & Sun 2015, https://arxiv.org/abs/1506.01497. The second stage looks at regions
that the first proposes, so that a prediction belongs to no fixed place of the image: a teacher of
this kind teaches through its detections, which are assigned to the student's places.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as Torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, batched_nms

from kd.models.boxes import labelled, log_odds, pad_last
from kd.models.detection_backbone import LEVELS, STRIDES, Backbone, check_multiple
from kd.models.detector import Detector

_ABSENT = -80.0  # class logit of padding: its sigmoid is 0 in float32
_SIDE = 7  # of the map that is cut out for a region


class FasterRCNN(Detector):
    """Faster R-CNN on a pyramid of three maps: [B, C, S, S] -> [B, max_detections, 4 + K].

    A prediction is a box and K class logits; rows without a detection have class logits of −80.
    The training loss runs both stages on the features of the last forward pass, so `loss` has to
    follow `forward` on the same images.

    Args:
        in_channels: C.
        image_size: S, a multiple of 32.
        num_classes: K.
        backbone: `resnet18`, `resnet34`, `resnet50` or `mobilenet_v3_large`; random weights.
        channels: of the feature pyramid; the paper's successor has 256.
        hidden: width of the second stage's two linear layers; torchvision has 1 024.
        proposals: regions that the second stage looks at.
        max_detections: most boxes of an image.
        **options: see `Detector`.

    Raises:
        UserError: the image size does not suit, or the backbone is unknown.

    Example:
        >>> net = FasterRCNN(1, 64, 10, backbone="resnet18", channels=32, hidden=64).eval()
        >>> net(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 20, 14])
    """

    two_stage = True

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        backbone: str,
        channels: int = 128,
        hidden: int = 256,
        proposals: int = 50,
        max_detections: int = 20,
        **options: Any,
    ) -> None:
        super().__init__(image_size, num_classes, max_detections=max_detections, **options)
        check_multiple("faster_rcnn", image_size)
        for name, value in {"channels": channels, "hidden": hidden, "proposals": proposals}.items():
            if value < 1:
                raise ValueError(f"{name} must be ≥ 1, got {value!r}")
        maps = Backbone(backbone, in_channels, channels)
        maps.out_channels = channels  # type: ignore[assignment]  # read by torchvision
        both = Torchvision(
            maps,
            rpn_anchor_generator=AnchorGenerator(
                tuple((2 * s,) for s in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES)
            ),
            rpn_pre_nms_top_n_train=4 * proposals,
            rpn_pre_nms_top_n_test=2 * proposals,
            rpn_post_nms_top_n_train=2 * proposals,
            rpn_post_nms_top_n_test=proposals,
            rpn_batch_size_per_image=64,
            box_batch_size_per_image=64,
            box_roi_pool=MultiScaleRoIAlign(LEVELS, _SIDE, 2),
            box_head=TwoMLPHead(channels * _SIDE**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
        )
        self.backbone, self.rpn, self.roi_heads = both.backbone, both.rpn, both.roi_heads
        self.cls, self.box = nn.Identity(), nn.Identity()  # taps
        self._last: tuple[ImageList, dict[str, Tensor]] | None = None

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images)
        sizes = [(self.image_size, self.image_size)] * len(images)
        self._last = ImageList(images, sizes), maps
        with torch.no_grad(), _inference(self.rpn):
            proposals, _ = self.rpn(*self._last)
            pooled = self.roi_heads.box_roi_pool(maps, proposals, sizes)
            logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
            boxes = self.roi_heads.box_coder.decode(deltas.float(), proposals)[:, 1:]
            odds = log_odds(F.log_softmax(logits.float(), dim=1)[:, 1:])
        counts = [len(regions) for regions in proposals]
        rows = [self._best(*p) for p in zip(boxes.split(counts), odds.split(counts), strict=True)]
        found = torch.stack(rows)
        return torch.cat([self.box(found[..., :4]), self.cls(found[..., 4:])], dim=2)

    def _best(self, boxes: Tensor, odds: Tensor) -> Tensor:
        """Detections of one image from regions' boxes [R, K, 4] and class logits [R, K]."""
        best, label = odds.max(1)
        boxes = boxes[torch.arange(len(boxes), device=boxes.device), label]
        boxes = boxes.clamp(0, self.image_size)
        scores = best.sigmoid() * (best.sigmoid() > self.score_threshold)
        kept = batched_nms(boxes, scores, label, self.nms_iou)[: self.max_detections]
        kept = kept[scores[kept] > 0]
        empty = boxes.new_zeros(self.max_detections, 4)
        empty[: len(kept)] = boxes[kept]
        return torch.cat([empty, pad_last(odds[kept], self.max_detections, _ABSENT)], dim=1)

    def loss(self, predictions: Tensor, target: Tensor) -> Tensor:
        """Sum of the losses of both stages on the features of the last forward pass.

        Raises:
            RuntimeError: that was on other images.
        """
        if self._last is None or len(self._last[1]["p3"]) != len(target):
            raise RuntimeError("the loss of Faster R-CNN needs a forward pass on the same images")
        (images, maps), self._last = self._last, None
        truth = labelled(target, first_label=1)
        training = self.training
        self.train()  # both stages compute losses in training mode alone; neither has batch norm
        proposals, first = self.rpn(images, maps, truth)
        _, second = self.roi_heads(maps, proposals, images.image_sizes, truth)
        self.train(training)
        return torch.stack([value.float() for value in [*first.values(), *second.values()]]).sum()

    def decode(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        return predictions[..., :4].float(), predictions[..., 4:].float()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # features with a graph cannot be copied


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for a block."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
