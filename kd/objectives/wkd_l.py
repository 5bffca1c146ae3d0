"""WKD-L: Wasserstein distance of softened probabilities, over the similarity of classes.

    L = (1/B) Σ_i [ −p_t[i, y] · log p_s[i, y] + γ · W(q_s[i], q_t[i]) ]
    W(q, r) = ⟨P, C⟩,    P = argmin over plans from q to r of ⟨P, C⟩ + η · Σ_kl P_kl · log P_kl
    C_kl = 1 − exp(−κ · (1 − cos(w_k, w_l)))

p is the softmax of z, q the softmax of z / T over the K − 1 classes other than the label y, w_k the
row of class k in the weight [K, D] of the teacher's classifier. P comes from a fixed number of
Sinkhorn's iterations, from the student's side last, and gradients pass through all of them.

Paper: Lv, Yang & Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge
Distillation", NeurIPS 2024, https://arxiv.org/abs/2412.08139.

KL compares the probabilities of the same class only; here mass that lies on a class similar to the
right one costs less than mass on another. The paper prefers similarities by kernel alignment (CKA)
of the features of all training images of two classes and has the classifier's weights as an
alternative. These are used here: they are part of the teacher, need neither a pass over the data
nor an equal number of images a class, and are the same for every batch, which similarities of a
batch's outputs are not. As in the paper, W is not multiplied by T²: it is of first order in the
logits' difference, not of second as KL, and γ depends on T and on the costs.

The authors' code iterates with exp(−C/η) and adds 1e-8 to its divisors; here the iterations are in
log space. It also lets γ fall to 0 by a cosine over the last 90 of 240 epochs.

Reduction: sum over classes, mean over the batch.
"""

import math
from typing import ClassVar

from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.heads import linear_head
from kd.objectives.nkd import target_cross_entropy
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.transport import LOWEST, class_cost, transport_cost
from kd.types import Batch, Outputs


def wkd_l(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    cost: Tensor,
    temperature: float = 8.0,
    gamma: float = 30.0,
    regularisation: float = 0.05,
    iterations: int = 10,
) -> Tensor:
    """Cross-entropy on the label and Wasserstein distance of the other classes.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        target: class indices [B], int64.
        cost: C [K, K] in [0, 1], of moving mass from a class (row) to another; see
            `kd.objectives.transport.class_cost`.
        temperature: T > 0 for the classes other than the label, in both nets.
        gamma: γ ≥ 0, weight of the distance.
        regularisation: η ≥ 0.02, weight of the plan's entropy.
        iterations: of Sinkhorn's, ≥ 1.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        The student's mass lies on class 1, the teacher's on class 2. The distance is the cost:

        >>> import torch
        >>> from kd import losses
        >>> student = torch.tensor([[0.0, 90.0, -90.0, -90.0]])
        >>> teacher = torch.tensor([[0.0, -90.0, 90.0, -90.0]])
        >>> cost = torch.full((4, 4), 0.3).fill_diagonal_(0.0)
        >>> loss = losses.wkd_l(student, teacher, torch.tensor([0]), cost, gamma=1.0)
        >>> round(loss.item(), 4)
        0.3

    Reference:
        Lv et al. 2024, https://arxiv.org/abs/2412.08139
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    log_student, log_teacher = (
        _without(logits / temperature, target).log_softmax(1) for logits in (student, teacher)
    )
    distance = transport_cost(log_student, log_teacher, upcast(cost), regularisation, iterations)
    return target_cross_entropy(student, teacher, target) + gamma * distance.mean()


def _without(logits: Tensor, target: Tensor) -> Tensor:
    """Logits [B, K] with −∞ at the label [B]."""
    return logits.scatter(1, target[:, None], -math.inf)


class WassersteinLogits(Objective):
    """WKD-L as a loss term, with costs from the weight of the teacher's classifier.

    Args:
        temperature: T > 0 for the classes other than the label, in both nets.
        gamma: γ ≥ 0, weight of the distance.
        sharpness: κ > 0 of the costs; see `kd.objectives.transport.class_cost`.
        regularisation: η ≥ 0.02, weight of the plan's entropy.
        iterations: of Sinkhorn's, ≥ 1.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "response"
    needs_labels = True
    copies_head = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 8.0,
        gamma: float = 30.0,
        sharpness: float = 1.0,
        regularisation: float = 0.05,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        if not gamma >= 0:
            raise ValueError(f"gamma must be ≥ 0, got {gamma!r}")
        if not sharpness > 0:
            raise ValueError(f"sharpness must be > 0, got {sharpness!r}")
        if not regularisation >= LOWEST:
            raise ValueError(f"regularisation must be ≥ {LOWEST}, got {regularisation!r}")
        if not isinstance(iterations, int) or iterations < 1:
            raise ValueError(f"iterations must be a whole number ≥ 1, got {iterations!r}")
        self.gamma, self.sharpness = gamma, sharpness
        self.plan = regularisation, iterations
        self.cost: Tensor

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        weight = linear_head("wkd_l", "teacher", setting.teacher_head).weight.detach()
        if weight.shape[0] != setting.num_classes:
            raise UserError(
                f"wkd_l compares the {setting.num_classes} classes by the rows of the teacher's "
                f"classifier, whose weight is {list(weight.shape)}"
            )
        self.register_buffer("cost", class_cost(weight.float(), self.sharpness))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        logits = student.logits.float(), teacher.logits.float()
        return wkd_l(*logits, batch.target, self.cost, self.temperature, self.gamma, *self.plan)
