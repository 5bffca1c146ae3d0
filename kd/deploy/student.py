"""A loaded student: the net with its preprocessing, class names and taps."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from kd.data.normalise import Normalise
from kd.errors import UserError
from kd.io.student_metadata import StudentMetadata


class Student(nn.Module):
    """A trained net and what is known about it.

    Its state dict has the keys of the net itself, so that the weights load into the plain net and
    the other way round. It is in eval mode at first, and otherwise an ordinary module.

    Args:
        net: images [B, C, H, W] -> logits [B, K].
        metadata: from the weights file; None: only the net is known.

    Attributes:
        net: the plain net, which takes normalised images.
        accepts: kinds of images that `forward` takes.
        class_names: names of the K classes in the order of the logits; empty if unknown.
        task: a name in `kd.tasks.TASKS`; None if unknown.
        taps: canonical name -> module path in this module, for `kd.Taps(student, student.taps, …)`.
        normalisation: mean and std per channel on the 0..1 scale; None if unknown.
        metadata: the description in the file: architecture, input size, mean and std, method,
            version, commit. None: the file has none.

    Example:
        >>> import kd
        >>> student = Student(nn.Flatten(), None)
        >>> student(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 4])
        >>> student.accepts
        ('normalised floating point',)
    """

    def __init__(self, net: nn.Module, metadata: StudentMetadata | None) -> None:
        super().__init__()
        self.net = net
        self.metadata = metadata
        self.class_names: list[str] = metadata["class_names"] if metadata else []
        self.task: str | None = metadata["task"] if metadata else None
        paths = metadata["taps"] if metadata else {}
        # The taps of a student that its method changes (SimKD) are inside it, as
        # `kd.distillers.deployed.ChangedStudent` names it.
        inside = "net.changed_student" if hasattr(net, "changed_student") else "net"
        self.taps = {name: f"{inside}.{path}" for name, path in paths.items()}
        self.normalisation = _mean_and_std(metadata)
        self._normalise = _normalise(metadata)
        known = self._normalise is not None
        self.accepts = (*(("uint8",) if known else ()), "normalised floating point")
        # The keys of a state dict are the net's own, as in `student.safetensors`.
        self.register_state_dict_post_hook(_strip_net)
        self.register_load_state_dict_pre_hook(_add_net)
        self.eval()

    def preprocess(self, images: Any) -> Tensor:
        """Convert images to what the net takes, as in training.

        Args:
            images: uint8 [B, C, H, W], with H and W of `metadata["input_size"]`.

        Returns:
            float32 [B, C, H, W]: (images / 255 − mean) / std per channel, on the same device.

        Raises:
            UserError: the images are not uint8, or mean and std are unknown.
        """
        if images.dtype != torch.uint8:
            raise UserError(f"preprocess takes uint8 images, got {images.dtype}")
        if self._normalise is None:
            raise UserError(
                "the file does not say how its images were normalised (mean, std); pass floating "
                "point images that are normalised as in training"
            )
        return cast(Tensor, self._normalise(images))

    def forward(self, images: Any) -> Tensor:
        """Return the logits of a batch of images.

        Args:
            images: [B, C, H, W], either uint8 (0..255), which go through `preprocess`, or floating
                point, which are taken as normalised and go to the net as they are. Floats in 0..1
                are not normalised.

        Returns:
            Logits [B, K].

        Raises:
            UserError: images of another type, or uint8 where mean and std are unknown.
        """
        if images.dtype == torch.uint8:
            images = self.preprocess(images)
        elif not images.is_floating_point():
            raise UserError(f"images must be {' or '.join(self.accepts)}, got {images.dtype}")
        return cast(Tensor, self.net(images))

    def extra_repr(self) -> str:
        said = f"input: {' or '.join(self.accepts)} [B, C, H, W]"
        if self.metadata is None:
            return said
        height, width = self.metadata["input_size"]
        size = f"[B, {self.metadata['channels']}, {height}, {width}]"
        return f"{said.replace('[B, C, H, W]', size)}, classes: {len(self.class_names)}"


def _normalise(metadata: StudentMetadata | None) -> Normalise | None:
    known = _mean_and_std(metadata)
    return None if known is None else Normalise(*known)


def _mean_and_std(metadata: StudentMetadata | None) -> tuple[list[float], list[float]] | None:
    if metadata is None or metadata["mean"] is None or metadata["std"] is None:
        return None
    return metadata["mean"], metadata["std"]


def _strip_net(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    _rename(state, f"{prefix}net.", prefix)
    versions = getattr(state, "_metadata", None)  # versions of the modules' state, by path
    if versions is not None:
        _rename(versions, f"{prefix}net.", prefix)


def _add_net(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix, f"{prefix}net.")


def _rename(entries: dict[str, Any], old: str, new: str) -> None:
    for key in [key for key in entries if key.startswith(old)]:
        entries[new + key.removeprefix(old)] = entries.pop(key)
