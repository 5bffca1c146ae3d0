"""Selection of the best epoch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import UNUSED

from kd.callbacks.checkpoint import Checkpoints
from kd.io.atomic import write_atomic


@pytest.mark.parametrize(
    ("scores", "best"), [((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 3), ((0.0, 0.0), 2)]
)
def test_latest_of_equal_scores_is_best(scores, best, tmp_path):
    checkpoints, saved = Checkpoints(tmp_path), []

    def save(path):
        saved.append(path.name)
        write_atomic(path, str(len(saved)).encode())  # as Lightning does, through our plugin

    for epoch, score in enumerate(scores):
        trainer: Any = SimpleNamespace(
            callback_metrics={"val/acc": torch.tensor(score)},
            current_epoch=epoch,
            save_checkpoint=save,
            is_global_zero=True,
            sanity_checking=False,
            loggers=[],
        )
        checkpoints.on_validation_end(trainer, UNUSED)
        checkpoints.on_train_epoch_end(trainer, UNUSED)
    assert checkpoints.best_epoch == best
    assert checkpoints.best_score == pytest.approx(max(scores))
    assert (tmp_path / "checkpoints" / "best.ckpt").read_text() == str(best)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == str(len(scores))
