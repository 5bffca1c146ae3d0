"""A run's teacher as one net that takes raw or normalised images, as a loaded student does."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kd.data.normalise import Normalise
from kd.errors import UserError
from kd.teachers.base import Teacher
from kd.teachers.cached import CachedTeacher
from kd.teachers.ensemble import EnsembleTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.updated import UpdatedTeacher
from kd.types import Batch


class LiveTeacher(nn.Module):
    """The nets behind a teacher, without its cache: images [B, C, H, W] -> logits [B, K].

    Of an ensemble, logits are those of the combination; `confidence` weighting, which reads labels,
    is uniform, as on test images.

    Args:
        teacher: of the run.
        normalisation: mean and std of the run's data per channel on the 0..1 scale; None: unknown.

    Attributes:
        normalisation: as given; floating point images are expected to be normalised so.
        taps: `embedding` -> its module path in this module; of an ensemble, that of the member
            `teacher.features`. Empty if there is none.
    """

    def __init__(
        self,
        teacher: Teacher,
        normalisation: tuple[Sequence[float], Sequence[float]] | None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.normalisation = normalisation
        self._normalise = None if normalisation is None else Normalise(*normalisation)
        self.taps = self._embedding()
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, K] of uint8 images, or of floats normalised as the run's data.

        Raises:
            UserError: uint8 images where mean and std are unknown.
        """
        if images.dtype == torch.uint8:
            if self._normalise is None:
                raise UserError("the teacher takes no uint8 images: mean and std are not known")
            images = self._normalise(images)
        return _logits(self.teacher, images)

    def _embedding(self) -> dict[str, str]:
        single = _single(self.teacher)
        path = None if single is None else single.taps.tap_paths.get("embedding")
        if single is None or path is None:
            return {}
        inside = next(name for name, module in self.named_modules() if module is single.net)
        return {"embedding": f"{inside}.{path}"}


def _single(teacher: Teacher) -> FrozenTeacher | None:
    """Return the net whose taps the teacher has; None for an ensemble without `features`."""
    if isinstance(teacher, CachedTeacher | UpdatedTeacher):
        return teacher.teacher
    if isinstance(teacher, EnsembleTeacher):
        features = teacher.features
        return None if features is None else _single(teacher.members[features])
    return cast(FrozenTeacher, teacher)


def _logits(teacher: Teacher, images: Tensor) -> Tensor:
    if isinstance(teacher, EnsembleTeacher):
        members = teacher.members.values()
        return teacher.combined(torch.stack([_logits(member, images) for member in members]))
    if isinstance(teacher, CachedTeacher):
        return _logits(teacher.teacher, images)
    zeros = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return teacher.outputs(Batch(images, zeros, zeros, zeros, epoch=0)).logits.float()
