"""A live teacher: a frozen net that runs on every batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.taps import Taps
from kd.teachers.base import Report, Teacher
from kd.teachers.class_map import ClassMap
from kd.teachers.renormalise import Renormalise
from kd.types import Batch, Outputs


class FrozenTeacher(Teacher):
    """A frozen net, run on every batch without gradients.

    Args:
        net: the trained net; its parameters are frozen in place.
        tap_paths: its taps, canonical name -> module path.
        wanted: the taps to record.
        renormalise: converts the student's images to those that the net was trained on; None: they
            are the same.
        classes: selects the logits of the student's classes; None: the net has no others.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> teacher = FrozenTeacher(net, {"embedding": "1:in"}, ["embedding"]).train()
        >>> teacher.training, any(p.requires_grad for p in net.parameters())
        (False, False)
    """

    def __init__(
        self,
        net: nn.Module,
        tap_paths: Mapping[str, str],
        wanted: Iterable[str],
        renormalise: Renormalise | None = None,
        classes: ClassMap | None = None,
    ) -> None:
        super().__init__()
        self.renormalise, self.classes = renormalise, classes
        self.net = net.requires_grad_(False)
        self.taps = Taps(net, tap_paths, wanted)
        self._forwards = 0
        self.train(False)

    @property
    def output_source(self) -> Literal["live"]:
        return "live"

    @property
    def needs_preparation(self) -> bool:
        return False

    @property
    def forwards(self) -> int:
        return self._forwards

    @property
    def seconds(self) -> float:
        return 0.0

    @property
    def nets(self) -> Sequence[nn.Module]:
        return [self.net]

    @property
    def head(self) -> nn.Module | None:
        head = self.taps.head
        return head if head is None or self.classes is None else self.classes.head(head)

    @property
    def run(self) -> Callable[[Tensor], Outputs]:
        return self._run

    def outputs(self, batch: Batch) -> Outputs:
        return self._run(batch.input)

    @torch.no_grad()
    def _run(self, images: Tensor) -> Outputs:
        return self.live_outputs(images)

    def live_outputs(self, images: Tensor) -> Outputs:
        """Return the outputs for the student's images [B, C, H, W].

        They have the gradients of parameters that are not frozen any more.
        """
        self._forwards += len(images)
        logits, taps = self._mapped(self.taps.outputs(self._normalised(images)))
        # As read from the cache: maps of another memory format are summed in another order.
        return Outputs(logits, {name: tap.contiguous() for name, tap in taps.items()})

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [B, K] with their gradients at the student's images [B, C, H, W]."""
        self._forwards += len(images)
        return self._mapped(self.taps.outputs(self._normalised(images))).logits

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        return {"": self._mapped(self.taps.probe(self._normalised(images)))}

    def _mapped(self, outputs: Outputs) -> Outputs:
        """The outputs with the logits of the student's classes."""
        if self.classes is None:
            return outputs
        return outputs._replace(logits=self.classes(outputs.logits))

    def _normalised(self, images: Tensor) -> Tensor:
        """The student's images [B, C, H, W] as the net takes them."""
        return images if self.renormalise is None else self.renormalise(images)

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        """Do nothing: outputs are computed on every batch."""
