"""One trial of a search, as a training run."""

import logging
from collections.abc import Callable
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from kd.io.locks import clear, exclusive_folder
from kd.io.result_file import read_result, write_result
from kd.io.task_figures import score
from kd.training.run import run
from kd.tuning.pruning import ReportToTrial
from kd.tuning.queue import DEFAULTS, TrialLost

log = logging.getLogger(__name__)

_FOLDER = "folder"  # user attribute of a trial whose run has begun


def prepare_folder(trial: optuna.Trial, known: FrozenTrial, parent: Path) -> Path:
    """Return the folder of a trial's run: the one of an interrupted run, else an empty one.

    Args:
        trial: the trial.
        known: what the storage knew of it when it was claimed.
        parent: of this worker's trials.

    Raises:
        UserError: another process uses the folder.
    """
    folder = parent / f"trial_{trial.number:04d}"
    recorded = known.user_attrs.get(_FOLDER)
    if recorded is not None and Path(recorded).is_dir():
        folder = Path(recorded)
    if recorded is None or not folder.is_dir():
        clear(folder)  # of a trial in a deleted storage
        trial.set_user_attr(_FOLDER, str(folder))
    with exclusive_folder(folder):
        return folder


def run_trial(
    trial: optuna.Trial,
    known: FrozenTrial,
    cfg: DictConfig,
    folder: Path,
    check: Callable[[], None],
) -> float:
    """Train without the test set and return the validation accuracy of the best epoch.

    A run that was interrupted is resumed. The trial with the default settings is never pruned: the
    best trial is then at least as good as the defaults. If it fails, the search fails; other trials
    that fail are pruned, so that the sampler avoids their settings. A full disk or a storage that
    is out of reach is no matter of the settings, and ends the search.

    Args:
        trial: an Optuna trial.
        known: what the storage knew of it when it was claimed.
        cfg: the run's config.
        folder: the run's folder.
        check: raises `TrialLost` if another worker has taken the trial.

    Raises:
        optuna.TrialPruned: the pruner ended the trial, or it failed.
    """
    cfg.paths.run = str(folder)
    defaults = DEFAULTS in trial.user_attrs
    try:
        report = ReportToTrial(trial, not defaults, known.intermediate_values, check)
        result = run(cfg, folder, callbacks=[report], test=False)
    except optuna.TrialPruned as pruned:
        log.info("trial %d pruned: %s", trial.number, pruned)
        write_result(folder, (read_result(folder) or {}) | {"status": "pruned"})
        raise
    except (TrialLost, OptunaError, SQLAlchemyError, OSError):
        raise
    except Exception as error:
        if defaults:
            raise
        log.warning("trial %d failed: %s", trial.number, error)
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        # A failed trial would not count, and the sampler would ignore it.
        raise optuna.TrialPruned(str(error)) from error
    trial.set_user_attr("best_epoch", result["best_epoch"])
    return score(result)
