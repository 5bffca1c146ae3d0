"""Resuming: the checkpoint that a run continues from, and whether it fits the run."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.callbacks.checkpoint import IDENTITY, OPTIMIZER
from kd.config.identity import config_hash
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder
from kd.io.weights import read_file

log = logging.getLogger(__name__)

# Entries of a run's checkpoint: Lightning's, the distiller's and those of our callback.
_ENTRIES = (
    *("state_dict", "pytorch-lightning_version", "callbacks", "plan", "stages"),
    *(IDENTITY, OPTIMIZER),
)


def find_checkpoint(cfg: DictConfig, folder: Path) -> Path | None:
    """Return the checkpoint to resume from; None for a run that starts from the beginning.

    A run that was interrupted resumes from its own last checkpoint, otherwise from `resume`. The
    checkpoint of the best epoch is copied along.

    Raises:
        UserError: the checkpoint is missing, damaged, or does not fit; or the run's folder holds
            one of another configuration, which training would overwrite.
    """
    own = RunFolder(folder)
    file = _own_checkpoint(own, config_hash(cfg))
    if file is None and cfg.resume is not None:
        path = Path(cfg.resume)
        file = RunFolder(path).last if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"resume={cfg.resume}: there is no checkpoint {file}")
    if own.last.is_file() and (file is None or file.parent.resolve() != own.checkpoints.resolve()):
        raise UserError(
            f"{own.last} belongs to a run with another configuration and would be overwritten; "
            "choose another folder with hydra.run.dir=…, delete this one, or continue that run's "
            f"training with resume={own.last}"
        )
    if file is not None:
        content = read_file(file)
        _check_fits(file, content, cfg.optimizer._target_)
        _copy_best(file, content, own)
        log.info("resuming from %s", file)
    return file


def _own_checkpoint(folder: RunFolder, identity: str) -> Path | None:
    """The last checkpoint in the run's folder, if the same configuration wrote it."""
    if not folder.last.is_file():
        return None
    try:
        content = read_file(folder.last)
    except UserError as error:
        raise UserError(f"{error}; delete {folder.checkpoints} to start over") from error
    same = isinstance(content, dict) and content.get(IDENTITY) == identity
    return folder.last if same else None


def _check_fits(file: Path, content: Any, optimizer: str) -> None:
    """Refuse a file that is no run's checkpoint, and one with the state of another optimizer."""
    if not isinstance(content, dict) or any(entry not in content for entry in _ENTRIES):
        raise UserError(f"resume={file}: not a checkpoint of a run of this version of kd")
    saved = content[OPTIMIZER]
    # Compared by class: torch.optim.SGD and torch.optim.sgd.SGD are the same.
    if saved.rpartition(".")[2] != optimizer.rpartition(".")[2]:
        raise UserError(
            f"resume={file}: it holds the state of {saved}, which optimizer._target_={optimizer} "
            "cannot continue; choose the same optimizer"
        )


def _copy_best(file: Path, content: Any, folder: RunFolder) -> None:
    """Copy the checkpoint of the best epoch so far to the run's folder, if there is one."""
    if content["callbacks"]["Checkpoints"]["best_score"] is None:
        return
    best = file.with_name(folder.best.name)
    if not best.is_file():
        raise UserError(f"resume={file}: {best}, the checkpoint of the best epoch, is missing")
    if best.resolve() != folder.best.resolve():
        read_file(best)  # raises for a damaged file, before it is copied
        write_atomic(folder.best, best.read_bytes())
