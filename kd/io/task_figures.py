"""The figure by which each task is judged, for readers of result.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TaskFigure(NamedTuple):
    """A task's figure, as in result.json and in words; higher is better."""

    key: str
    words: str

    @property
    def val(self) -> str:
        """Key of the validation figure, which selects the epoch."""
        return f"val/{self.key}"

    @property
    def test(self) -> str:
        """Key of the test figure."""
        return f"test/{self.key}"


FIGURES = {
    "image_classification": TaskFigure("acc", "accuracy"),
    "text_classification": TaskFigure("acc", "accuracy"),
    "detection": TaskFigure("map", "mAP"),
}


def score(result: Mapping[str, Any]) -> float:
    """Return the validation figure that selected the epoch."""
    return float(result[task_figure(result).val])


def task_of(result: Mapping[str, Any]) -> str:
    """Return the task that a result.json names; results of earlier versions name none."""
    return str(result.get("task") or "image_classification")


def task_figure(result: Mapping[str, Any]) -> TaskFigure:
    """Return the figure of the task that a result.json names.

    Example:
        >>> task_figure({"task": "detection"}).test
        'test/map'
    """
    return FIGURES.get(task_of(result), FIGURES["image_classification"])
