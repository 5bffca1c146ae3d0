"""`python -m kd.train`: distil a student, or a sweep of students with `-m`."""

import logging
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kd.build.precision import choose_precision
from kd.compat import process_rank
from kd.config.command import command
from kd.config.headline import headline
from kd.config.record import all_overrides, own_folders, resume_command, start_point
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.task_figures import score
from kd.training.controls import apply_control
from kd.training.finished import finished
from kd.validation import config_problems

log = logging.getLogger(__name__)


@command("train", check=config_problems)
def main(cfg: DictConfig) -> float:
    """Run one job and return its selecting validation figure, which a sweeper may maximise.

    A job whose folder holds its finished run is skipped, and an interrupted one is resumed: the
    same command with the same `hydra.sweep.dir` completes a sweep.
    """
    if (line := headline(cfg)) is not None:
        log.info(line)
    _refuse_devices_in_a_sweep(cfg)
    folder = Path(cfg.paths.run)
    choose_precision(cfg)
    apply_control(cfg)
    if (done := finished(cfg, folder)) is not None:
        log.info("%s holds this run, finished: nothing to do", folder)
        if cfg.figures and not RunFolder(folder).figures.exists():
            log.warning("figures are drawn when a run ends: choose another folder for them")
        return score(done)
    overrides = all_overrides(cast(DictConfig, HydraConfig.get()), cfg.resume)
    cfg.resume = start_point(cfg, folder)
    from lightning.pytorch.utilities import rank_zero_only

    from kd.training.run import run
    from kd.training.summary import print_summary

    try:
        result = run(cfg, folder, overrides=overrides)
    except SystemExit:
        if RunFolder(folder).last.exists():
            log.warning("interrupted; resume with: %s", resume_command(folder, own_folders()))
        raise
    rank_zero_only(print_summary)(result)
    if HydraConfig.get().mode == RunMode.RUN and not process_rank():
        log.info(
            'results in %s; load the student with kd.load("%s"); compare runs with: '
            "python -m kd.report sweep=%s",
            *(folder, folder, folder.parent),
        )
    return score(result)


def _refuse_devices_in_a_sweep(cfg: DictConfig) -> None:
    """Refuse several devices in a job: Lightning starts their processes with the same command.

    That command is the whole sweep, which would then run once more in every process.
    """
    several = cfg.trainer.devices not in (1, "1", "auto") or "strategy" in cfg.trainer
    if HydraConfig.get().mode == RunMode.MULTIRUN and several:
        raise UserError(
            f"trainer.devices={cfg.trainer.devices}: a job of a sweep runs on one device; spread "
            "the jobs over devices with hydra/launcher=joblib hydra.launcher.n_jobs=… or "
            "hydra/launcher=submitit_local"
        )


if __name__ == "__main__":
    main()
