"""Teacher-free KD (Tf-KD_reg): matches a virtual teacher that smooths the label.

    paper: L = T² · (1/B) Σ_i KL(u^T[i] ‖ p_s^T[i]),   u[y] = a, u[k] = (1 − a) / (K − 1),
           u^T = softmax(log(u) / T),  p^T = softmax(z / T)
    code:  L = (1/B) Σ_i KL(softmax(u[i] / T) ‖ p_s[i])

Paper: Yuan, Tay, Li, Wang & Feng, "Revisiting Knowledge Distillation via Label Smoothing
Regularization", CVPR 2020, https://arxiv.org/abs/1909.11723.

At T = 1 this is label smoothing with ε = (1 − a) · K / (K − 1), less the entropy of u. The paper
writes the divergence without T². The factor is present here as for every soft target: without it
the term has almost no gradient at the paper's T = 20.

The authors' code divides the probabilities u by T as if they were logits, which makes the teacher
almost uniform, and has the student at T = 1 (for CIFAR-100, as they state in an issue):
`variant="code"`, which rewards entropy. It also averages over the classes and multiplies by 100,
which together is the sum over classes if K = 100.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.kd import kd
from kd.objectives.logits import LogitObjective

VARIANTS = ("code", "paper")


def tfkd(
    student_logits: Tensor,
    target: Tensor,
    temperature: float = 20.0,
    confidence: float = 0.99,
    variant: str = "paper",
) -> Tensor:
    """T²·KL of a softened virtual teacher; needs no teacher net.

    Args:
        student_logits: [B, K].
        target: class indices [B], int64.
        temperature: T > 0.
        confidence: a in (0, 1), the virtual teacher's probability of the label.
        variant: `paper`, or `code` for the loss of the authors' code for CIFAR-100.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        Without temperature it is label smoothing (here ε = 0.1 · 3/2) less the entropy of u:

        >>> import torch
        >>> from kd import losses
        >>> logits, target = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
        >>> loss = losses.tfkd(logits, target, temperature=1.0, confidence=0.9)
        >>> u = torch.tensor([0.9, 0.05, 0.05])
        >>> smoothed = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.15)
        >>> torch.allclose(loss, smoothed + (u * u.log()).sum())
        True

    Reference:
        Yuan et al. 2020, https://arxiv.org/abs/1909.11723
    """
    check_choice("variant", variant, VARIANTS)
    virtual = virtual_probabilities(target, student_logits.shape[1], confidence)
    if variant == "code":
        # The temperature of the student is 1, so `kd` has no factor T² either.
        return kd(student_logits, virtual / temperature, 1.0)
    return kd(student_logits, virtual.log(), temperature)


def virtual_probabilities(target: Tensor, classes: int, confidence: float) -> Tensor:
    """u [B, K]: `confidence` at the labels [B], the rest spread evenly over the other classes."""
    label = F.one_hot(target, classes).float()
    return label * confidence + (1 - label) * ((1 - confidence) / max(classes - 1, 1))


class VirtualTeacher(LogitObjective):
    """Teacher-free KD as a loss term.

    Args:
        temperature: T > 0.
        confidence: a in (0, 1), the virtual teacher's probability of the label.
        variant: `paper` or `code`, see `tfkd`.
        standardise: see `LogitObjective`; of the student's logits.

    Raises:
        ValueError: a setting is out of range, or `variant` is unknown.
    """

    needs_teacher = False
    needs_labels = True

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 20.0,
        confidence: float = 0.99,
        variant: str = "paper",
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {confidence!r}")
        check_choice("variant", variant, VARIANTS)
        self.confidence, self.variant = confidence, variant

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return tfkd(student, target, self.temperature, self.confidence, self.variant)
