"""Batches of generated images: rounds of generation at intervals, and the bank that they fill."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kd.data.normalise import Normalise
from kd.data.splits import Normalisation
from kd.distillers.image_bank import ImageBank
from kd.distillers.synthesis import Judges, Synthesis
from kd.objectives.setting import Run
from kd.teachers.frozen import FrozenTeacher
from kd.types import Batch


class GeneratedImages(nn.Module):
    """Source of a student's batches in place of a training set.

    Part of the state dict: generator, bank and number of batches. The optimizer of a round ends
    with the round, so that a run resumed between two batches has all of the earlier process.

    Args:
        synthesis: rounds of generation.
        every: batches from one round to the next.
        initial: rounds before the first batch.
        size: number of images that the bank keeps.

    Raises:
        ValueError: a setting is out of range.
    """

    bank: ImageBank
    normalise: Normalise

    def __init__(self, synthesis: Synthesis, every: int, initial: int, size: int) -> None:
        super().__init__()
        if min(every, initial) < 1:
            raise ValueError(f"every and initial must be ≥ 1, got {every!r} and {initial!r}")
        if size < synthesis.count:
            raise ValueError(f"bank must be ≥ count={synthesis.count}, got {size!r}")
        self.synthesis, self.every, self.initial, self.size = synthesis, every, initial, size
        self._batches = 0  # that were drawn

    def build(self, classes: int, shape: tuple[int, ...], normalisation: Normalisation) -> None:
        """Create generator and bank of images [C, S, S] of K classes."""
        self.synthesis.build(classes, shape)
        self.bank = ImageBank(self.size, shape)
        self.normalise = Normalise(*normalisation)

    @property
    def due(self) -> bool:
        """Whether images are to be generated before the next batch."""
        return self._batches % self.every == 0

    def generate(self, teacher: FrozenTeacher, student: Run) -> Iterator[dict[str, Tensor]]:
        """Add the images that are due to the bank, and yield the figures of every round.

        Args:
            teacher: leads the generator.
            student: images are sought on which it differs from the teacher, but for the first
                batch, before which it knows nothing.
        """
        first = self._batches == 0
        judges = Judges(teacher, None if first else student, self.normalise)
        for _ in range(self.initial if first else 1):
            images, target, figures = self.synthesis.round(judges)
            self.bank.add(images, target)
            yield figures

    def draw(self, batch: Batch) -> Batch:
        """Return a batch of the bank of the same size as one of the training set."""
        self._batches += 1
        places = self.bank.draw(len(batch.input))
        images = self.normalise(self.bank.images[places]).to(batch.input.dtype)
        target, view = self.bank.target[places], torch.zeros_like(places)
        return Batch(images, target, places, view, batch.epoch)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self._batches)

    def set_extra_state(self, state: Tensor) -> None:
        self._batches = int(state)
