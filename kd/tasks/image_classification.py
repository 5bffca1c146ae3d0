"""Image classification: one label per image."""

from kd.metrics import Evaluation
from kd.tasks.base import Task


class ImageClassification(Task):
    """Logits [B, K] of images [B, C, H, W], selected by validation accuracy."""

    name, title, sample = "image_classification", "image classification", "image"
    student = "resnet8"

    def evaluation(self, num_classes: int, closely: bool = False) -> Evaluation:
        return Evaluation(num_classes, closely)
