"""What every loss term is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from kd.trace import Batch, Trace


class Objective(nn.Module, ABC):
    """One term of the loss: the mean over the batch, unweighted, its own constants inside.

    A subclass names the taps it reads in `student_taps` and `teacher_taps`, makes trainable
    adapters in `build`, and computes in `forward`. The formula itself is a function of tensors
    beside the class. No `.item()` and no branch on a tensor's values in it: it must compile.
    """

    needs_teacher: ClassVar[bool] = True
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    def build(self, student: Trace, teacher: Trace) -> None:
        """Make adapters from the shapes of one probed batch, before the optimizer exists.

        Raises:
            UserError: the two nets cannot be paired; names the taps and their shapes.
        """

    @abstractmethod
    def forward(self, student: Trace, teacher: Trace, batch: Batch) -> Tensor:
        """Return the term's scalar."""


def check_temperature(temperature: float) -> float:
    """Return `temperature` if it is a positive number.

    Raises:
        ValueError: it is not.
    """
    if (
        isinstance(temperature, bool)
        or not isinstance(temperature, int | float)
        or temperature <= 0
    ):
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}")
    return float(temperature)
