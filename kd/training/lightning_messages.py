"""Filters for warnings and log messages of Lightning that do not apply to this project's runs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Messages below a warning advertise Lightning's platform or repeat the config. Lightning
# sets the level of its loggers when it is imported, so Hydra's logging config has no effect on it.
_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_WARNINGS = (
    # The frozen teacher is in eval mode on purpose.
    r"Found \d+ module\(s\) in eval mode",
    # A resumed run continues in the folder of its checkpoints.
    r"Checkpoint directory .* exists and is not empty",
    # `log_every_n_steps` counts steps, and everything here is logged at the end of an epoch.
    r"The number of training batches \(\d+\) is smaller than",
    # torchmetrics has synchronised the figures of validation and test before they are logged.
    r"It is recommended to use `self.log\(.*sync_dist=True",
    # Lightning 2.6 calls a function that torch 2.15 deprecates; a user cannot change that.
    r".*isinstance\(treespec, LeafSpec\)",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide these warnings, and messages below a warning, within a `with` block."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for pattern in _WARNINGS:
            warnings.filterwarnings("ignore", pattern)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
