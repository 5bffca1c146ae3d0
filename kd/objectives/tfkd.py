"""A teacher made by hand: sure of the label, without a preference among the other classes.

    paper: L = T² · (1/B) Σ_i KL(u^T[i] ‖ p_s^T[i]),   u[y] = a, u[k] = (1 − a) / (K − 1),
           u^T = softmax(log(u) / T),  p^T = softmax(z / T)
    code:  L = (1/B) Σ_i KL(softmax(u[i] / T) ‖ p_s[i])

Yuan, Tay, Li, Wang & Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization",
2020 (Tf-KD_reg). At T = 1 it is label smoothing with ε = (1 − a) · K / (K − 1), less the entropy of
u. The paper writes the divergence without T²; it is kept here as for every soft target, since at
the paper's T = 20 the term would be inert without it.

The authors' code divides the probabilities of u by T as if they were logits, which makes the
teacher all but uniform, and leaves the student at T = 1 (for CIFAR-100, as they say in an issue):
`variant="code"`, a reward for entropy. It averages over classes too and multiplies by 100, which
together is the sum over classes if K = 100; here classes are summed.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature
from kd.objectives.kd import kd

_VARIANTS = ("code", "paper")


def virtual_probabilities(target: Tensor, classes: int, confidence: float) -> Tensor:
    """`confidence` at the label and the rest spread evenly: labels [B] to [B, K]."""
    label = F.one_hot(target, classes).float()
    return label * confidence + (1 - label) * ((1 - confidence) / max(classes - 1, 1))


class VirtualTeacher(LogitObjective):
    """Divergence from a softened teacher that needs no net.

    Args:
        temperature: T > 0.
        confidence: a in (0, 1), what the virtual teacher believes of the label.
        variant: `paper`, or `code` for the loss that the authors' code has for CIFAR-100.
        standardise: as `LogitObjective`, of the student's logits.
    """

    needs_teacher = False
    needs_labels = True

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
        if variant not in _VARIANTS:
            raise ValueError(f"variant must be one of {list(_VARIANTS)}, got {variant!r}")
        self.confidence, self.variant = confidence, variant

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        belief = virtual_probabilities(target, student.shape[1], self.confidence)
        if self.variant == "code":
            return kd(student, belief / self.temperature, 1.0)
        return kd(student, belief.log(), self.temperature)
