"""The exported module of a detector: raw pixels in, decoded boxes and scores out."""

from typing import Any

import torch
from torch import Tensor

from kd.deploy.exporting.exported_net import ExportedModule, ExportedNet
from kd.models.detector import Detector


class ExportedDetector(ExportedModule):
    """uint8 images [B, C, S, S] -> boxes [B, N, 4] in pixels and scores [B, N, K], float32.

    Preprocessing and decoding are in the graph. Suppression of duplicates is not: its result has
    another size for each image, and runtimes differ in how they do it.

    Args:
        net: the detector.
        mean: mean of each channel on the 0..1 scale [C].
        std: standard deviation of each channel [C].
    """

    input_name = ExportedNet.input_name
    output_names = ("boxes", "scores")

    def __init__(self, net: Detector, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.predictions = ExportedNet(net, mean, std, torch.float32)
        self.net = net
        self.eval()

    def forward(self, images: Tensor) -> Any:
        predictions = self.predictions(images)
        boxes, _ = self.net.decode(predictions)
        return boxes.clamp(0, self.net.image_size), self.net.scores(predictions)
