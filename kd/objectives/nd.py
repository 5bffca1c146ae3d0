"""Norm and direction (ND, of KD++): draws embeddings towards the teacher's class means.

    L = (1/B) Σ_i [1 − ⟨s_i, e_y⟩ / max(‖s_i‖, ‖t_i‖)],    e_y = m_y / ‖m_y‖

s_i and t_i are the embeddings of image i in the two nets, y its label and m_y the mean of the
teacher's embeddings of that class. The term is 0 where s_i lies along m_y and is at least as long
as t_i: a shorter one is lengthened, a longer one is only turned. KD++ adds it to labels and soft
targets.

Paper: Wang, Cheng, Duan, Wang, Feng & Kong, "Improving Knowledge Distillation via Regularizing
Feature Norm and Direction", ECCV 2024, https://arxiv.org/abs/2305.17007.

Class means. The authors' code takes them over the training set before it trains. Here every image
counts once, in the view in which training shows it first: after the first epoch the means are those
of one pass over the images, and stay. During the first epoch they are of the images seen so far,
with those of the batch, so that no label in the batch is without a mean. A teacher that changes
would leave its first means behind, and is refused.

The authors' code raises the weight of the soft targets from 0 over the first 20 of 240 epochs; here
it is constant.

Where the widths differ, the student's embedding goes through batch norm and a trained linear map.
The authors' code has dropout between the two, which changes the norms that the term compares.

Reduction: mean over the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.pairs import full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

SMALLEST = 1e-6  # a norm below it counts as this


def nd(
    student_embedding: Tensor, teacher_embedding: Tensor, class_means: Tensor, target: Tensor
) -> Tensor:
    """One minus the length of embeddings along their class mean, relative to the larger norm.

    Args:
        student_embedding: s [B, D], of the teacher's width.
        teacher_embedding: t [B, D], of which only the norms are read.
        class_means: m [K, D].
        target: labels [B], int64.

    Returns:
        Scalar in [0, 2]: mean over the batch.

    Example:
        Along the class mean, half as long as the teacher's, and as long:

        >>> import torch
        >>> from kd import losses
        >>> teacher, means = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
        >>> label = torch.tensor([0])
        >>> losses.nd(torch.tensor([[1.0, 0.0]]), teacher, means, label).item()
        0.5
        >>> losses.nd(torch.tensor([[2.0, 0.0]]), teacher, means, label).item()
        0.0

    Reference:
        Wang et al. 2024, https://arxiv.org/abs/2305.17007
    """
    student, teacher = upcast(student_embedding), upcast(teacher_embedding)
    direction = F.normalize(upcast(class_means), dim=1)[target]
    along = (student * direction).sum(1)
    norms = torch.maximum(student.norm(dim=1), teacher.norm(dim=1))
    return (1 - along / norms.clamp_min(SMALLEST)).mean()


class NormAndDirection(Objective):
    """Norm and direction as a loss term, with the teacher's class means.

    Args:
        tap: canonical name of a tap with vectors [B, D] in both nets.
    """

    family = "feature"
    needs_index = True
    needs_labels = True
    needs_pretrained = "keeps class means of a pretrained teacher"
    one_device = "its class means would be those of the images that each device has seen"
    sums: Tensor  # of the teacher's embeddings by class [K, D]
    counts: Tensor  # number of them [K, 1]
    seen: Tensor  # whether each image of the training pool is among them, bool [N]

    def __init__(self, tap: str = "embedding") -> None:
        super().__init__()
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = (list(outputs.taps[self.tap].shape) for outputs in (student, teacher))
        if len(ours) != 2 or len(theirs) != 2:
            raise UserError(
                f"nd needs vectors [B, D] at tap {self.tap!r}; the student has {ours}, the teacher "
                f"{theirs}"
            )
        if ours[1] != theirs[1]:
            self.projector = nn.Sequential(nn.BatchNorm1d(ours[1]), nn.Linear(ours[1], theirs[1]))
        self.register_buffer("sums", torch.zeros(setting.num_classes, theirs[1]))
        self.register_buffer("counts", torch.zeros(setting.num_classes, 1))
        self.register_buffer("seen", torch.zeros(len(setting.targets), dtype=torch.bool))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = teacher.taps[self.tap].float()
        if self.training:
            self._add(theirs, batch)
        with full_precision(theirs):
            ours = self.projector(student.taps[self.tap].float())
        return nd(ours, theirs, self.class_means(), batch.target)

    def class_means(self) -> Tensor:
        """Means of the teacher's embeddings [K, D]; zero where no image has been seen."""
        return self.sums / self.counts.clamp_min(1)

    @torch.no_grad()
    def _add(self, embedding: Tensor, batch: Batch) -> None:
        """Add the images that are seen for the first time."""
        new = (~self.seen[batch.index]).to(self.sums.dtype)[:, None]
        self.sums.index_add_(0, batch.target, embedding * new)
        self.counts.index_add_(0, batch.target, new)
        self.seen[batch.index] = True
