"""Base class of teachers that answer by way of another teacher."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.teachers.base import Report, Teacher
from kd.types import Outputs


class WrappedTeacher(Teacher):
    """Has another teacher's nets; what a subclass does not define is the other's, except `run`.

    Args:
        teacher: the other teacher.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.pairing_weights = teacher.pairing_weights

    @property
    def output_source(self) -> Literal["live", "cached"]:
        return self.teacher.output_source

    @property
    def needs_preparation(self) -> bool:
        return self.teacher.needs_preparation

    @property
    def forwards(self) -> int:
        return self.teacher.forwards

    @property
    def seconds(self) -> float:
        return self.teacher.seconds

    @property
    def nets(self) -> Sequence[nn.Module]:
        return self.teacher.nets

    @property
    def head(self) -> nn.Module | None:
        return self.teacher.head

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        return self.teacher.example_outputs(images)

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        self.teacher.prepare(loader, index, report)
