"""A teacher of two views of each image."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from kd.data.loader import TensorLoader
from kd.teachers.base import Report, Teacher
from kd.teachers.wrapped import WrappedTeacher
from kd.types import Batch, Outputs, joined


class TwoViewTeacher(WrappedTeacher):
    """Yields the outputs for both views of a batch, those of the first views first: 2·B rows.

    Args:
        first: the teacher of the first views, live or cached.
        second: that of the second views; of the same net.
    """

    def __init__(self, first: Teacher, second: Teacher) -> None:
        super().__init__(first)
        self.second = second

    @property
    def output_source(self) -> Literal["live", "cached"]:
        sources = {self.teacher.output_source, self.second.output_source}
        return "live" if "live" in sources else "cached"

    @property
    def needs_preparation(self) -> bool:
        return self.teacher.needs_preparation or self.second.needs_preparation

    @property
    def seconds(self) -> float:
        return self.teacher.seconds + self.second.seconds

    @property
    def run(self) -> Callable[[Tensor], Outputs] | None:
        return self.teacher.run

    def outputs(self, batch: Batch) -> Outputs:
        return joined(self.teacher.outputs(batch), self.second.outputs(second_of(batch)))

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        assert loader.second is not None  # or the run had a teacher of one view
        self.teacher.prepare(loader, index, report)
        self.second.prepare(loader.second, index, report)

    def matches(self, batch: Batch, loader: TensorLoader) -> bool:
        assert loader.second is not None
        second = self.second.matches(second_of(batch), loader.second)
        return second and self.teacher.matches(batch, loader)


def second_of(batch: Batch) -> Batch:
    """Return the second views of a batch, which must have some."""
    if batch.second is None:
        raise RuntimeError("the batch has one view of each image, and two are needed")
    return batch.second
