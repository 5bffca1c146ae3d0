"""Text classification: one label per text."""

from kd.metrics import Evaluation
from kd.tasks.base import Task


class TextClassification(Task):
    """Logits [B, K] of token ids [B, L], selected by validation accuracy."""

    name, title, sample = "text_classification", "text classification", "text"
    student = "text_cnn"

    def evaluation(self, num_classes: int, closely: bool = False) -> Evaluation:
        return Evaluation(num_classes, closely)
