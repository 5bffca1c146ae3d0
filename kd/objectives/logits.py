"""Base class of loss terms on logits alone, and their standardisation."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from kd.objectives.base import Objective
from kd.types import Batch, Outputs


class LogitObjective(Objective):
    """Base class of terms that read nothing but the logits of the two nets.

    Args:
        standardise: standardise every row of logits of both nets first; see `standardise`. The
            term is then invariant to scale and shift of the student's logits. It needs K > 2: with
            two classes every standardised row is ±(1, −1)/√2. The setting changes neither
            temperature nor weight; the paper has T = 2 and weights of 9 for T²·KL and 0.1 for the
            labels: `experiment=logit_standardisation`.

    Attributes:
        reads_raw_logits: whether `compare` gets the logits as they are, because it also reads
            confidences from them, and standardises what it softens by itself.
    """

    family = "response"
    reads_raw_logits: ClassVar[bool] = False

    def __init__(self, standardise: bool = False) -> None:
        super().__init__()
        self.standardise = standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.compare(*self._logits(student, teacher), batch.target)

    def class_terms(
        self, student: Outputs, teacher: Outputs, batch: Batch, share: float
    ) -> tuple[Tensor, Tensor]:
        return self.compare_by_class(*self._logits(student, teacher), batch.target, share)

    def _logits(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Logits [B, K] of student and teacher in float32, as `compare` takes them."""
        # A method without a teacher (tfkd) has no teacher outputs to read.
        reference = teacher if self.needs_teacher else student
        ours, theirs = student.logits.float(), reference.logits.float()
        if self.reads_raw_logits:
            return ours, theirs
        return self.standardised(ours), self.standardised(theirs)

    def standardised(self, logits: Tensor) -> Tensor:
        """Return logits [B, K] standardised, or as they are without `standardise`."""
        return standardise(logits) if self.standardise else logits

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the term from logits [B, K] in float32 and labels [B]."""

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the parts of `class_terms` from logits [B, K] and labels [B]."""
        raise NotImplementedError(f"{type(self).__name__} has no parts by class")


def standardise(logits: Tensor) -> Tensor:
    """Scale and shift every row of logits to mean 0 and (unbiased) standard deviation 1.

    Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
    https://arxiv.org/abs/2403.01427. As in the paper, 1e-7 is added to the deviation; constant
    rows become 0.

    Args:
        logits: [B, K].

    Returns:
        [B, K].

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    centred = logits - logits.mean(1, keepdim=True)
    # The gradient of sqrt is infinite at 0, the variance of a constant row.
    variance = centred.square().sum(1, keepdim=True) / (logits.shape[1] - 1)
    return centred / (variance.clamp_min(1e-14).sqrt() + 1e-7)
