"""One trial of a search, as a training run."""

import logging
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from kd.io.locks import clear
from kd.io.result_file import read_result, write_result
from kd.training.run import run
from kd.tuning.pruning import ReportToTrial

log = logging.getLogger(__name__)

DEFAULTS = "defaults"  # user attribute of the trial that has the default settings


def run_trial(trial: optuna.Trial, cfg: DictConfig, folder: Path) -> float:
    """Train without the test set and return the validation accuracy of the best epoch.

    The trial with the default settings is never pruned: the best trial is then at least as good as
    the defaults. If it fails, the search fails; other trials that fail are pruned, so that the
    sampler avoids their settings.

    Raises:
        optuna.TrialPruned: the pruner ended the trial, or it failed.
    """
    cfg.paths.run = str(folder)
    clear(folder)  # of a trial in a deleted storage
    try:
        report = ReportToTrial(trial, prune=DEFAULTS not in trial.user_attrs)
        result = run(cfg, folder, callbacks=[report], test=False)
    except optuna.TrialPruned as pruned:
        log.info("trial %d pruned: %s", trial.number, pruned)
        write_result(folder, (read_result(folder) or {}) | {"status": "pruned"})
        raise
    except SystemExit:
        # Optuna marks a trial as failed on KeyboardInterrupt, but leaves it running on this.
        trial.study.tell(trial.number, state=TrialState.FAIL)
        raise
    except UpdateFinishedTrialError:
        raise  # another worker has declared this one dead
    except Exception as error:
        if DEFAULTS in trial.user_attrs:
            raise
        log.warning("trial %d failed: %s", trial.number, error)
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        # A failed trial would not count, and the sampler would ignore it.
        raise optuna.TrialPruned(str(error)) from error
    trial.set_user_attr("best_epoch", result["best_epoch"])
    return float(result["val/acc"])
