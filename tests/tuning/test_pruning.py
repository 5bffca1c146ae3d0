"""Pruning: trials below the median of the earlier ones."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch

from kd.tasks import TASKS
from kd.tuning.pruning import ReportToTrial


def end_epoch(trial: optuna.Trial, epoch: int, accuracy: float, prune: bool = True) -> None:
    module: Any = SimpleNamespace(task=TASKS["image_classification"])
    metrics = {"val/acc": torch.tensor(accuracy)}
    trainer: Any = SimpleNamespace(
        sanity_checking=False, current_epoch=epoch - 1, callback_metrics=metrics
    )
    ReportToTrial(trial, prune).on_validation_end(trainer, module)


def test_trials_below_the_median_are_pruned_after_the_warmup():
    # n_warmup_steps=2: the pruner ignores epoch 1.
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, 2))
    for accuracies in ((0.5, 0.6), (0.7, 0.8)):
        trial = study.ask()
        for epoch, accuracy in enumerate(accuracies, start=1):
            end_epoch(trial, epoch, accuracy)
        study.tell(trial, accuracies[-1])
    good, bad, exempt = study.ask(), study.ask(), study.ask()
    for trial in (good, bad, exempt):
        end_epoch(trial, 1, 0.1)
    end_epoch(good, 2, 0.75)  # the median in epoch 2 is 0.7
    end_epoch(exempt, 2, 0.65, prune=False)
    with pytest.raises(optuna.TrialPruned, match=r"0\.6500 in epoch 2"):
        end_epoch(bad, 2, 0.65)
    assert study.trials[3].intermediate_values == pytest.approx({1: 0.1, 2: 0.65})
