"""Processes and devices of a run: which process writes, and what runs on one device only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer
from omegaconf import DictConfig

from kd.build.method import Method
from kd.build.parts import distiller_class, step_owner
from kd.compat import process_rank
from kd.errors import UserError
from kd.io.locks import exclusive_folder
from kd.validation.optimizer import parts_optimizer

_SEVERAL_GRADIENTS = "several devices exchange one gradient of the whole loss"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock the run's folder in the first process; those of the other devices share it.

    Raises:
        UserError: another run uses the folder.
    """
    # Lightning starts the processes of further devices with the same command, and with a rank.
    if process_rank():
        yield
        return
    with exclusive_folder(folder):
        yield


def check_devices(cfg: DictConfig, trainer: Trainer, method: Method) -> None:
    """Refuse devices that the environment, the mode or the method rule out.

    Raises:
        UserError: names the setting and the reason.
    """
    if process_rank() and trainer.world_size == 1:
        # Such a process would train without writing anything: only rank 0 writes.
        raise UserError(
            "the environment (RANK, LOCAL_RANK or SLURM_PROCID) says that this is process "
            f"{process_rank()} of several, but trainer.devices is 1: unset it, or start one "
            "process, as hydra/launcher=slurm does for every job"
        )
    if trainer.world_size > 1:
        _refuse_parts_of_a_batch(cfg, method)


def _refuse_parts_of_a_batch(cfg: DictConfig, method: Method) -> None:
    """Refuse modes and objectives that need the whole batch: each device has a part of it."""
    reasons = [(step_owner(cfg), distiller_class(cfg).one_device)]
    reasons += [(f"method={cfg.method.name}", o.one_device) for o in method.objectives.values()]
    if parts_optimizer(cfg) is not None:
        reasons.append((f"optimizer._target_={cfg.optimizer._target_}", _SEVERAL_GRADIENTS))
    for place, reason in reasons:
        if reason:
            raise UserError(f"{place} runs on one device: {reason}; use trainer.devices=1")
