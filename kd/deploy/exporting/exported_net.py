"""The exported module: a student with its preprocessing, which takes raw pixels."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from kd.data.normalise import Normalise
from kd.deploy.student import Student
from kd.errors import UserError


class ExportedModule(nn.Module, ABC):
    """What is exported of a student: raw samples -> float32 tensors, in eval mode.

    Attributes:
        input_name, output_names: in files whose inputs and outputs have names.
    """

    input_name: ClassVar[str]
    output_names: ClassVar[tuple[str, ...]] = ("logits",)

    def dynamic_sizes(self, batch: object) -> dict[int, Any]:
        """Return the sizes of the input that may differ from call to call, by dimension.

        Args:
            batch: the range of batch sizes, a `torch.export.Dim`.
        """
        return {0: batch}

    @abstractmethod
    def forward(self, samples: Tensor) -> Any:
        """Return logits [B, K]."""


class ExportedNet(ExportedModule):
    """uint8 images [B, C, H, W] -> float32 logits [B, K].

    Preprocessing is part of the graph: no program that runs the file has to know mean and std. The
    logits are those of temperature 1, whatever temperature the student was trained with.

    Args:
        net: normalised images [B, C, H, W] -> logits [B, K].
        mean: mean of each channel on the 0..1 scale [C].
        std: standard deviation of each channel [C].
        dtype: of the net's arithmetic; float16 halves the file.

    Example:
        >>> net = ExportedNet(nn.Flatten(), mean=[0.5], std=[0.25])
        >>> net(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        tensor([[-2.,  2.]])
    """

    input_name = "images"

    def __init__(
        self,
        net: nn.Module,
        mean: list[float],
        std: list[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.net = net.to(dtype)
        self.dtype = dtype
        self.eval()

    def forward(self, images: Tensor) -> Any:
        # As `Normalise`, but for its in-place operations, which torch 2.6 does not export.
        shifted = images.to(torch.float32) - self.normalise.shift
        logits = self.net((shifted * self.normalise.scale).to(self.dtype))
        return cast(Tensor, logits).float()


def exported_net(student: Student, dtype: torch.dtype = torch.float32) -> ExportedNet:
    """Return a loaded student as the module that is exported; the student itself is changed.

    Raises:
        UserError: the student's file does not say how its images were normalised.
    """
    if student.normalisation is None:
        raise UserError(
            "the student's file does not say how its images were normalised (mean, std), so no "
            "file can be made that takes raw images"
        )
    return ExportedNet(student.net, *student.normalisation, dtype)
