"""DeiT: the student's distillation token learns the teacher's classes, its class token the labels.

    L = (1 − λ)·CE(z_class, y) + λ·D(z_dist)
    hard:  D = (1/B) Σ_i CE(z_dist, argmax_k z_t[k])
    soft:  D = T²·KL(p_t^T ‖ p_dist^T)

z_class and z_dist are the logits of the classifiers on the two tokens of the student, z_t the
teacher's.

Paper: Touvron, Cord, Douze, Massa, Sablayrolles & Jégou, "Training data-efficient image
transformers & distillation through attention", ICML 2021, https://arxiv.org/abs/2012.12877.

λ is the method's `alpha`. The paper has ½ for hard distillation, without label smoothing of the
teacher's class, and 0.1 with T = 3 for soft distillation. Equation 2 writes the student first in
KL; the teacher's probabilities are the weights here, as in the authors' code and in Hinton et al.,
whom that section cites. The authors' code divides the soft term by the number of classes as well.
At inference both classifiers predict: the mean of their probabilities (`kd.models.deit`).

Reduction: sum over classes, mean over the batch.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.ce import CrossEntropy, ce
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.kd import kd
from kd.objectives.maps import IMAGES
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("hard", "soft")


def deit(
    student_logits: Tensor,
    teacher_logits: Tensor,
    variant: str = "hard",
    temperature: float = 3.0,
) -> Tensor:
    """Distillation term of DeiT.

    Args:
        student_logits: of the classifier on the distillation token [B, K].
        teacher_logits: [B, K].
        variant: "hard": cross-entropy with the teacher's class; "soft": divergence from its
            softened probabilities.
        temperature: T > 0, read by "soft" alone.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.deit(torch.zeros(1, 2), torch.tensor([[0.0, 9.0]]))  # log 2
        tensor(0.6931)

    Reference:
        Touvron et al. 2021, https://arxiv.org/abs/2012.12877
    """
    check_choice("variant", variant, VARIANTS)
    if variant == "hard":
        return F.cross_entropy(upcast(student_logits), teacher_logits.argmax(1))
    return kd(student_logits, teacher_logits, temperature)


class ClassToken(CrossEntropy):
    """Cross-entropy of the class token's classifier with the labels.

    Args:
        label_smoothing: ε in [0, 1), see `CrossEntropy`.
    """

    tasks = IMAGES
    fitting_student = "deit_tiny_cifar"
    student_taps = ("classifier",)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        _check(student, "classifier", setting)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return ce(student.taps["classifier"], batch.target, self.label_smoothing)


class DistillationToken(Objective):
    """Distillation term of DeiT on the classifier of the distillation token.

    Args:
        variant: "hard" or "soft"; see `deit`.
        temperature: T > 0, read by "soft" alone.

    Raises:
        ValueError: an argument is out of range.
    """

    family = "response"
    tasks = IMAGES
    fitting_student = "deit_tiny_cifar"
    student_taps = ("distillation",)

    def __init__(self, variant: str = "hard", temperature: float = 3.0) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        self.variant, self.temperature = variant, check_temperature(temperature)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        _check(student, "distillation", setting)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = student.taps["distillation"]
        return deit(own, teacher.logits, self.variant, self.temperature)


def _check(student: Outputs, tap: str, setting: Setting) -> None:
    shape = list(student.taps[tap].shape)
    if shape[1:] != [setting.num_classes]:
        raise UserError(
            f"deit needs logits [B, {setting.num_classes}] at the student's tap {tap!r}, which has "
            f"{shape}; choose student=deit_tiny_cifar"
        )
