"""What every loss term is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kd.types import Batch, Outputs


class Setting(NamedTuple):
    """What adapters may depend on beside the all_outputs' shapes.

    num_classes: K.
    targets: labels [N] of the whole training pool, int64, in the order of `Batch.index`.
    student_head, teacher_head: the module that turns the tap `embedding` into logits, where the
        net has one. A head that is only read must not be registered as a submodule.
    """

    num_classes: int
    targets: Tensor
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None


class Objective(nn.Module, ABC):
    """One term of the loss: the mean over the batch, unweighted, its own constants inside.

    A subclass names the taps it reads in `student_taps` and `teacher_taps`, makes trainable
    adapters in `build`, and computes in `forward`. The formula itself is a function of tensors
    beside the class. No `.item()` and no branch on a tensor's values in it: it must compile.

    Attributes:
        family: what it compares, for the table of methods.
        needs_labels: it reads `Batch.target` as class numbers, which mixed images do not have.
        copies_head: it keeps a copy of the teacher's classifier, which must be trained already.
        needs_index: the term reads `Batch.index` or `Setting.targets`, as memory banks do.
        one_device: why the term cannot be computed on several devices; empty: it can.
        progress: the share of all training steps that is done, in [0, 1]; set before every step.
        stage: name of the method's stage, for methods that have several; see `enter`.
    """

    family: ClassVar[Literal["labels", "response", "feature", "relation"]]
    needs_teacher: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    copies_head: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False
    one_device: ClassVar[str] = ""
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    progress: float = 0.0
    stage: str = ""

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        """Make adapters from the shapes of one probed batch, before the optimizer exists.

        Raises:
            UserError: the two nets cannot be paired; names the taps and their shapes.
        """

    def enter(self, stage: str) -> None:
        """Begin a stage of a method that has several."""
        self.stage = stage

    @property
    def changes_student(self) -> bool:
        """Whether the method changes the student at inference."""
        return type(self).answer is not Objective.answer

    def answer(self, student: Outputs) -> Tensor:
        """Return the logits [B, K] at inference; other than the student's own only where the method
        changes the student, which `student_taps` then has to feed.
        """
        return student.logits

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Return the term's scalar."""


MAX_TEMPERATURE = 1e6  # its square is still a number in float32


def check_temperature(temperature: float) -> float:
    """Return `temperature` if it is a positive number that can be squared.

    Raises:
        ValueError: it is not.
    """
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not temperature > 0:
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}")
    if temperature > MAX_TEMPERATURE:
        raise ValueError(f"temperature must be ≤ {MAX_TEMPERATURE:g}, got {temperature!r}")
    return float(temperature)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that the setting `name` has one of the values in `choices`.

    Raises:
        ValueError: it has another value.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")


def upcast(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is float16 or bfloat16, else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class LogitObjective(Objective):
    """A term that sees nothing of the two nets but their logits, standardised first if asked.

    Args:
        standardise: replace each row z of both nets by (z − mean(z)) / std(z), std unbiased over
            the classes. Sun et al., "Logit Standardization in Knowledge Distillation", 2024. The
            term then says nothing about the scale of the student's logits, and needs K > 2: with
            two classes every standardised row is ±(1, −1)/√2.
    """

    family = "response"

    def __init__(self, standardise: bool = False) -> None:
        super().__init__()
        self.standardise = standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        taught_by = teacher if self.needs_teacher else student  # there may be no teacher to read
        ours, theirs = student.logits.float(), taught_by.logits.float()
        if self.standardise:
            ours, theirs = standardise(ours), standardise(theirs)
        return self.compare(ours, theirs, batch.target)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the term of logits [B, K] in float32 and labels [B]."""


def standardise(logits: Tensor) -> Tensor:
    """Bring every row of [B, K] to mean 0 and (unbiased) standard deviation 1; constant rows to 0.

    The paper's ε of 1e-7 is added to the deviation.
    """
    centred = logits - logits.mean(1, keepdim=True)
    # sqrt has no gradient at 0, where a constant row lies
    variance = centred.square().sum(1, keepdim=True) / (logits.shape[1] - 1)
    return centred / (variance.clamp_min(1e-14).sqrt() + 1e-7)
