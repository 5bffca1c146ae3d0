"""Conversion of a user's batches (input, target) to float images and labels."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor

from kd.data.counter_rng import stream
from kd.data.isolated import isolated
from kd.data.normalise import Normalise
from kd.data.splits import Normalisation
from kd.errors import UserError

HOOKS = 6  # purpose of a random stream; kd.data.external_loader and others use 1 … 5
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class ModuleHooks:
    """The hooks of a `LightningDataModule` around the transfer of a batch.

    Lightning calls those of `kd`'s own module; these run within the loader, on the device.

    Args:
        module: the user's module; None: there is none.

    Attributes:
        used: whether the module overrides any of these hooks.
        trainer: set as the `trainer` of the module.
    """

    def __init__(self, module: LightningDataModule | None) -> None:
        self.module = module
        self.trainer: Any = None
        self.used = module is not None and any(
            getattr(type(module), hook) is not getattr(LightningDataModule, hook)
            for hook in _TRANSFER
        )

    def __call__(self, content: Any) -> Any:
        if self.module is None:
            return content
        self.module.trainer = self.trainer
        content = self.module.on_before_batch_transfer(content, 0)
        content = self.module.transfer_batch_to_device(content, self.device, 0)
        return self.module.on_after_batch_transfer(content, 0)

    @property
    def device(self) -> torch.device:
        if self.trainer is None:
            return torch.device("cpu")
        device: torch.device = self.trainer.strategy.root_device
        return device

    @property
    def obstacle(self) -> str:
        """Why training does not resume exactly within an epoch; empty: it does."""
        if self.module is None or not self.used or self.device.type == "cpu":
            return ""
        return (
            f"{type(self.module).__name__} changes batches on the {self.device.type}, and may draw "
            "random numbers there"
        )


class Conversion:
    """Checks and converts the batches of one split.

    Args:
        name: of the data, for messages.
        split: `train`, `val` or `test`.
        seed: of random numbers in the hooks.
        num_classes: K; None: not known yet, and labels are not checked.
        normalisation: applied to uint8 images; None: they are scaled to 0..1.
        hooks: applied before anything else.
        floats_only: uint8 images are refused, as those of another split are floats.

    Attributes:
        normalisation: as given, or that of the scaling to 0..1 once there were uint8 images.
    """

    def __init__(
        self,
        name: str,
        split: str,
        seed: int,
        num_classes: int | None,
        normalisation: Normalisation | None,
        hooks: ModuleHooks,
        floats_only: bool = False,
    ) -> None:
        self.name, self.split, self.seed, self.num_classes = name, split, seed, num_classes
        self.normalisation, self.hooks, self.floats_only = normalisation, hooks, floats_only
        self._normalise: Normalise | None = None

    def __call__(self, content: Any, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Float images [B, C, H, W] and labels int64 [B] or probabilities [B, K].

        Raises:
            UserError: the batch is no (input, target) of an image classification.
        """
        if self.hooks.used:
            with isolated(stream(self.seed, HOOKS, epoch, number)):
                content = self.hooks(content)
        if not isinstance(content, tuple | list) or len(content) != 2:
            raise self._error("yields", content, "(input, target)")
        input, target = content
        if not isinstance(input, Tensor) or input.dim() != 4:
            raise self._error("has as input", input, "images uint8 or float [B, C, H, W]")
        return self._images(input), self._targets(target)

    def _images(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        if self.normalisation is not None and len(self.normalisation[0]) != channels:
            raise UserError(
                f"data {self.name!r}: mean and std have {len(self.normalisation[0])} values, the "
                f"images {channels} channels"
            )
        if images.is_floating_point():
            return images.float()
        if images.dtype != torch.uint8:
            raise self._error("has as input", images, "images uint8 or float [B, C, H, W]")
        if self.floats_only:
            raise self._error("has as input", images, "floats, as in training, or mean and std")
        if self._normalise is None:
            self.normalisation = self.normalisation or ([0.0] * channels, [1.0] * channels)
            self._normalise = Normalise(*self.normalisation).to(images.device)
        normalised: Tensor = self._normalise(images)
        return normalised

    def _targets(self, target: Any) -> Tensor:
        wanted = "class numbers [B]" + (" or probabilities [B, K]" * (self.split == "train"))
        if not isinstance(target, Tensor):
            raise self._error("has as target", target, wanted)
        if target.is_floating_point() and target.dim() == 2 and self.split == "train":
            return target.float()
        if target.is_floating_point() or target.dim() != 1:
            raise self._error("has as target", target, wanted)
        # Here and not on the GPU, where an index out of range ends the process.
        if self.num_classes is not None and target.device.type == "cpu" and len(target):
            self._check_range(int(target.min()), int(target.max()), self.num_classes)
        return target.long()

    def _check_range(self, least: int, greatest: int, num_classes: int) -> None:
        if not 0 <= least <= greatest < num_classes:
            raise UserError(
                f"data {self.name!r}: {self.split} labels from {least} to {greatest} with "
                f"num_classes={num_classes}; give num_classes, and number the classes from 0"
            )

    def _error(self, verb: str, found: Any, wanted: str) -> UserError:
        place = f"data {self.name!r}: the {self.split} loader"
        return UserError(f"{place} {verb} {describe(found)}; expected {wanted}")


def describe(value: Any) -> str:
    """A value's type and shape in one line, for messages."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(describe, value))})" if len(value) < 6 else f"{len(value)} values"
    return type(value).__name__
