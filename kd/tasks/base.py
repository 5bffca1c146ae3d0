"""The interface of a task: its figures, its labels' loss, and its default nets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from kd.io.task_figures import FIGURES
from kd.metrics import Figures


class Task(ABC):
    """What a net is trained for. The data name it, and nets of another task are refused.

    Attributes:
        name: as in result.json, and as `task` of data modules and nets.
        title: for messages.
        sample: singular noun for one sample, for messages and progress lines.
        student: a model of the task, for messages.
        method: a method that suits the task, for messages.
        classifies: whether outputs are logits [B, K] of one label per sample. Only then do
            agreement, confusion, calibration and cached test logits exist.
        label_loss: config of the objective that stands for cross-entropy with the labels in every
            method; None: cross-entropy itself.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    sample: ClassVar[str]
    student: ClassVar[str]
    method: ClassVar[str] = "kd"
    classifies: ClassVar[bool] = True
    label_loss: ClassVar[Mapping[str, Any] | None] = None

    @abstractmethod
    def evaluation(self, num_classes: int, closely: bool = False) -> Figures:
        """Return the figures of a split.

        Args:
            num_classes: K.
            closely: with the figures that only the test set has.
        """

    def answers(self, net: nn.Module, outputs: Tensor) -> Any:
        """Convert a net's outputs to what `evaluation` compares with the targets."""
        return outputs

    @property
    def selection(self) -> str:
        """Name of the figure that chooses the epoch; higher is better."""
        return FIGURES[self.name].key

    @property
    def figure(self) -> str:
        """What `selection` measures, for tables and log lines."""
        return FIGURES[self.name].words

    @property
    def monitor(self) -> str:
        """Key of the validation figure that chooses the epoch.

        Example:
            >>> from kd.tasks import task_named
            >>> task_named("image_classification").monitor
            'val/acc'
        """
        return FIGURES[self.name].val

    @property
    def test_key(self) -> str:
        """Key of the same figure of the test set."""
        return FIGURES[self.name].test
