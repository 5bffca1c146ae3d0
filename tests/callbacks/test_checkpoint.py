"""Selection of the best epoch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import UNUSED

from kd.callbacks.checkpoint import Checkpoints
from kd.io.atomic import write_atomic
from kd.tasks import TASKS


@pytest.mark.parametrize(
    ("scores", "best"), [((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 3), ((0.0, 0.0), 2)]
)
def test_latest_of_equal_scores_is_best(scores, best, tmp_path):
    checkpoints = scored(tmp_path, scores)
    assert checkpoints.best_epoch == best
    assert checkpoints.best_score == pytest.approx(max(scores))
    assert (tmp_path / "checkpoints" / "best.ckpt").read_text() == str(best)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == str(len(scores))


def test_epochs_that_a_callback_excludes_are_not_selected(tmp_path):
    checkpoints = scored(tmp_path, (0.9, 0.5, 0.6, 0.4), excluded=(0, 2))
    assert (checkpoints.best_epoch, checkpoints.best_score) == (2, pytest.approx(0.5))
    assert (tmp_path / "checkpoints" / "best.ckpt").read_text() == "2"
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == "4"


def scored(folder, scores, excluded=()):
    """The callback after epochs with these validation accuracies."""
    checkpoints, saved = Checkpoints(folder), []
    module: Any = SimpleNamespace(task=TASKS["image_classification"])

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
            callbacks=[checkpoints, SimpleNamespace(selectable=epoch not in excluded)],
        )
        checkpoints.on_validation_end(trainer, module)
        checkpoints.on_train_epoch_end(trainer, UNUSED)
    return checkpoints
