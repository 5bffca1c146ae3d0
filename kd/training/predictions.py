"""Collection of the predictions that a run makes on the test set."""

from typing import Any

import torch
from torch import Tensor

from kd.io.predictions import prediction_bytes
from kd.metrics import Figures


class KeptAnswers(Figures):
    """Figures of a classifier that also keep what they were computed from.

    Args:
        figures: the figures themselves.
    """

    def __init__(self, figures: Figures) -> None:
        super().__init__()
        self.figures = figures
        self._labels: list[Tensor] = []
        self._student: list[Tensor] = []
        self._teacher: list[Tensor] = []

    def update(self, answers: Any, target: Tensor, teacher: Tensor | None = None) -> None:
        self.figures.update(answers, target, teacher)
        self._labels.append(target.cpu())
        self._student.append(answers.float().cpu())
        if teacher is not None:
            self._teacher.append(teacher.float().cpu())

    def compute(self) -> dict[str, Tensor]:
        found = self.figures.compute()
        self.confusion = self.figures.confusion
        return found

    def content(self) -> bytes | None:
        """Return the content of the file of test predictions; None without any batch."""
        if not self._labels:
            return None
        labels, student = torch.cat(self._labels), torch.cat(self._student)
        teacher = torch.cat(self._teacher) if self._teacher else None
        return prediction_bytes(labels, student, teacher)
