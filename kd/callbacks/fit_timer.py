"""Seconds and images of training, over all processes of a resumed run."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer


class FitTimer(Timer):
    """Lightning's `Timer` without a limit, which also counts the training images.

    `time_elapsed()` is `fit_seconds` of result.json. The state is in the checkpoints, so a resumed
    run adds to the seconds and images up to its checkpoint. A class of its own leaves `callbacks`
    free for a `Timer` with a limit: Lightning allows one stateful callback of a class.

    Attributes:
        images: training images so far, over all devices; the last batch of an epoch may be smaller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # Devices have equal parts of a batch.
        self.images += len(batch.target) * trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.images = state_dict["images"]
