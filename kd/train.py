"""`python -m kd.train`: distil a student, or a grid of them with `-m`."""

import logging
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kd.config.command import command
from kd.config.identity import config_hash
from kd.errors import UserError
from kd.io.run_folder import RunFolder

log = logging.getLogger(__name__)


@command("train")
def main(cfg: DictConfig) -> float:
    """Run one job and return its validation accuracy, which a sweep may optimise.

    A job that its folder holds finished is not run again, and one that was interrupted goes on: a
    sweep that broke off is completed by the same command with the same `hydra.sweep.dir`.
    """
    from kd.training.summary import print_summary

    _refuse_devices_in_a_sweep(cfg)
    folder = Path(cfg.paths.run)
    if (done := finished(cfg, folder)) is not None:
        log.info("%s holds this run, finished: nothing to do", folder)
        if cfg.figures and not RunFolder(folder).figures.exists():
            log.warning("figures are drawn as a run ends: give it a folder of its own for them")
        return float(done["val/acc"])
    from lightning.pytorch.utilities import rank_zero_only

    from kd.training.run import run

    try:
        result = run(cfg, folder, hydra=cast(DictConfig, HydraConfig.get()))
    except SystemExit:
        if RunFolder(folder).last.exists():
            log.warning("interrupted; go on with: python -m kd.train resume=%s", folder)
        raise
    rank_zero_only(print_summary)(result)
    return float(result["val/acc"])


def _refuse_devices_in_a_sweep(cfg: DictConfig) -> None:
    """Lightning starts the other processes with the same command: the whole sweep, over again."""
    several = cfg.trainer.devices not in (1, "1", "auto") or "strategy" in cfg.trainer
    if HydraConfig.get().mode == RunMode.MULTIRUN and several:
        raise UserError(
            f"trainer.devices={cfg.trainer.devices}: a job of a sweep runs on one device; let the "
            "launcher use the others, with hydra/launcher=joblib hydra.launcher.n_jobs=… or "
            "hydra/launcher=submitit_local"
        )


def finished(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """The result of this very run, where the folder holds it.

    Raises:
        UserError: the folder holds the finished run of another configuration.
    """
    from kd.io.result_file import read_result

    result = read_result(folder)
    if result is None or result.get("status") != "completed":
        return None
    if result.get("config_hash") != config_hash(cfg):
        if cfg.resume is not None and Path(cfg.resume).resolve().is_relative_to(folder.resolve()):
            return None  # to go on from there, in another way
        raise UserError(
            f"{folder} holds a finished run of another configuration; choose another folder with "
            "hydra.run.dir=… or hydra.sweep.dir=…, or delete it"
        )
    return result


if __name__ == "__main__":
    main()
