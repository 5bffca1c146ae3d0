"""Warnings of Lightning that do not apply are hidden during a run, and only then."""

import logging
import warnings

import pytest

from kd.training.lightning_messages import quiet_lightning

KNOWN = [
    "Found 3 module(s) in eval mode at the start of training.",
    "Checkpoint directory /tmp/run/checkpoints exists and is not empty.",
    "The number of training batches (10) is smaller than the logging interval",
    "It is recommended to use `self.log('val/acc', ..., sync_dist=True)` when logging",
]


@pytest.mark.parametrize("message", KNOWN)
def test_known_warnings_are_hidden_within_the_block(message):
    with quiet_lightning():
        warnings.warn(message, UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="at the start|not empty|smaller than|recommended"):
        warnings.warn(message.replace("eval mode", "eval  mode"), UserWarning, stacklevel=1)


def test_other_warnings_are_shown():
    with quiet_lightning(), pytest.warns(UserWarning, match="deprecated"):
        warnings.warn("this argument is deprecated", UserWarning, stacklevel=1)


def test_levels_of_loggers_are_restored():
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with quiet_lightning():
        assert logger.level == logging.WARNING
    assert logger.level == before
    with pytest.raises(ZeroDivisionError), quiet_lightning():
        _ = 1 // 0
    assert logger.level == before
