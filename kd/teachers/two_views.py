"""A teacher of two views of each image."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.teachers.base import Report, Teacher
from kd.types import Batch, Outputs, joined


class TwoViewTeacher(Teacher):
    """Yields the outputs for both views of a batch, those of the first views first: 2·B rows.

    Args:
        first: the teacher of the first views, live or cached.
        second: that of the second views; of the same net.
    """

    def __init__(self, first: Teacher, second: Teacher) -> None:
        super().__init__()
        self.first, self.second = first, second

    @property
    def output_source(self) -> Literal["live", "cached"]:
        sources = {self.first.output_source, self.second.output_source}
        return "live" if "live" in sources else "cached"

    @property
    def needs_preparation(self) -> bool:
        return self.first.needs_preparation or self.second.needs_preparation

    @property
    def forwards(self) -> int:
        return self.first.forwards  # of the net, which both share

    @property
    def seconds(self) -> float:
        return self.first.seconds + self.second.seconds

    @property
    def nets(self) -> Sequence[nn.Module]:
        return self.first.nets

    @property
    def head(self) -> nn.Module | None:
        return self.first.head

    @property
    def run(self) -> Callable[[Tensor], Outputs] | None:
        return self.first.run

    def outputs(self, batch: Batch) -> Outputs:
        return joined(self.first.outputs(batch), self.second.outputs(second_of(batch)))

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        return self.first.example_outputs(images)

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        assert loader.second is not None  # or the run had a teacher of one view
        self.first.prepare(loader, index, report)
        self.second.prepare(loader.second, index, report)

    def matches(self, batch: Batch, loader: TensorLoader) -> bool:
        assert loader.second is not None
        second = self.second.matches(second_of(batch), loader.second)
        return second and self.first.matches(batch, loader)


def second_of(batch: Batch) -> Batch:
    """Return the second views of a batch, which must have some."""
    if batch.second is None:
        raise RuntimeError("the batch has one view of each image, and two are needed")
    return batch.second
