"""A teacher whose outputs are those of other images: a control of what its knowledge is worth."""

import torch
from torch import Tensor

from kd.data.counter_rng import stream
from kd.data.loader import TensorLoader
from kd.teachers.base import Report, Teacher
from kd.teachers.wrapped import WrappedTeacher
from kd.types import Batch, Outputs

_PURPOSE = 11  # of the random stream, see `kd.data.loader`


class ShuffledTeacher(WrappedTeacher):
    """Gives each training image the outputs for another one, which is the same in every epoch.

    The teacher's statistics stay as they are: the same outputs, confidences and classes (within a
    class) or class frequencies (over all images), but nothing about the image itself.

    Args:
        teacher: cached or live.
        seed: of the permutation.
        targets: labels of the training pool [N]: images exchange outputs within their class; None:
            with any image.
    """

    def __init__(self, teacher: Teacher, seed: int, targets: Tensor | None = None) -> None:
        super().__init__(teacher)
        self._seed, self._targets = seed, targets
        self._loader: TensorLoader | None = None
        self._other = torch.empty(0, dtype=torch.int64)  # of each sample in the pool [N]

    @property
    def needs_preparation(self) -> bool:
        return True

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        if self._loader is not loader:
            rows = loader.sampler.rows.cpu()
            other = permutation(rows, self._seed, self._targets)
            self._loader, self._other = loader, other.to(loader.inputs.device)
        others = self._other.index_select(0, index.to(self._other.device))
        if self.teacher.needs_preparation:
            self.teacher.prepare(loader, others, report)

    def outputs(self, batch: Batch) -> Outputs:
        return self.teacher.outputs(self._exchanged(batch))

    def pairing_outputs(self, batch: Batch) -> dict[str, Outputs]:
        return self.teacher.pairing_outputs(self._exchanged(batch))

    def _exchanged(self, batch: Batch) -> Batch:
        """The other images of a batch, in the views that this epoch has for them."""
        loader = self._loader
        assert loader is not None  # `prepare` comes first
        other = self._other.index_select(0, batch.index.to(self._other.device))
        shown = loader.show(other, loader.views(other, batch.epoch))
        if self.teacher.output_source == "live":  # cached outputs need no images
            shown = shown._replace(input=loader.normalise(shown.input))
        return shown._replace(epoch=batch.epoch).to(batch.input.device)


def permutation(rows: Tensor, seed: int, targets: Tensor | None = None) -> Tensor:
    """Return the sample that each sample is exchanged with; none keeps its own, if it has others.

    Args:
        rows: samples to exchange [M].
        seed: of the permutation.
        targets: labels by sample [N]: samples are exchanged within their class; None: with any.

    Returns:
        Sample by sample [max(rows) + 1], −1 for one that is not in `rows`.

    Example:
        >>> permutation(torch.tensor([0, 2, 3]), 0, torch.tensor([0, 0, 1, 1])).tolist()
        [0, -1, 3, 2]
    """
    generator = torch.Generator().manual_seed(stream(seed, _PURPOSE))
    found = torch.full((int(rows.max()) + 1,), -1, dtype=torch.int64)
    labels = torch.zeros_like(rows) if targets is None else targets.cpu()[rows]
    for label in labels.unique():
        own = rows[labels == label]
        order = own[torch.randperm(len(own), generator=generator)]
        found[order] = order.roll(1)  # a cycle through all of them has no fixed point
    return found
