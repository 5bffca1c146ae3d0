"""The callback of quantization-aware training: ranges that stand still at its end."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import nn

from kd.deploy.compression.fake_quantise import finish, quantised_layers, ranges, restore_ranges


class QuantisationSchedule(Callback):
    """Lets the ranges of the inputs follow the batches until a part of training is done.

    With ranges that stand still the last epochs train the net that is validated (Krishnamoorthi
    2018, section 4.2, https://arxiv.org/abs/1806.08342). Epochs before that are not selected by
    validation. When training ends, the inputs are rounded no longer and the weights are saved
    rounded, so that test figures are those of the saved file.

    Args:
        net: the student, after `fake_quantise`.
        freeze: progress of training, in [0, 1], from which the ranges stand still.
    """

    def __init__(self, net: nn.Module, freeze: float = 0.75) -> None:
        if not 0 <= freeze <= 1:
            raise ValueError(f"freeze must be in [0, 1], got {freeze!r}")
        self.net, self.freeze = net, freeze
        self.selectable = False  # see kd.callbacks.checkpoint

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        observing = not self._stand_still(pl_module)
        for _, layer in quantised_layers(pl_module):
            layer.input_range.observing = observing

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.selectable = self._stand_still(pl_module)

    def _stand_still(self, pl_module: LightningModule) -> bool:
        return float(pl_module.progress) >= self.freeze  # type: ignore[arg-type]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finish(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return ranges(self.net)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        restore_ranges(self.net, state_dict)
