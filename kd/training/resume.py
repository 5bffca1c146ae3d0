"""Resuming: the checkpoint that a run continues from, and the settings that may change with it.

| changed beside `resume=` | outcome |
|---|---|
| `trainer.max_epochs` | applied: schedules span the new number; refused if not above those done |
| `optimizer.lr`, `.weight_decay`, `.momentum`, … | applied to the restored optimizer |
| `scheduler` | applied: the learning rate is that of the new schedule at the resumed step |
| `callbacks` | applied |
| `trainer.precision`, device, gradient clipping, `max_time` | applied |
| `channels_last`, `compile`, `deterministic`, `teacher.cache` | applied |
| class and flags of the optimizer | refused: the saved state is of another one |
| data, batch size, nets, teacher, method, mode, seed, the trainer's other settings | refused |

What is applied stands in result.json under `changes`, with the epoch from which it holds, and is
part of the run's identity.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from kd.callbacks.checkpoint import EPOCHS_DONE, IDENTITY, OPTIMIZER
from kd.config.experiment import differing, experiment_settings, name_differences
from kd.config.identity import Identity
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.printable import printable
from kd.io.regular_files import check_regular, real_path
from kd.io.run_folder import RunFolder
from kd.io.weights import read_file

log = logging.getLogger(__name__)

# Entries of a run's checkpoint: Lightning's, the distiller's and those of our callback.
_ENTRIES = (
    *("state_dict", "pytorch-lightning_version", "callbacks", "plan", "stages", "global_step"),
    *(IDENTITY, OPTIMIZER, EPOCHS_DONE),
)
_EPOCHS = "trainer.max_epochs"
# What the state dicts of torch's optimizers keep beside the state, and a resumed run sets anew
_OPTIMIZER = (
    *("lr", "weight_decay", "momentum", "dampening", "nesterov", "betas", "eps", "alpha", "rho"),
    *("delta", "task_delta", "label_delta", "others_delta", "first", "middle"),
)
_TRAINER = ("precision", "accelerator", "devices", "strategy", "deterministic", "max_time")
_APPLIED = {
    *(f"optimizer.{name}" for name in _OPTIMIZER),
    *(f"trainer.{name}" for name in (*_TRAINER, "gradient_clip_val", "gradient_clip_algorithm")),
    *(_EPOCHS, "channels_last", "data.channels_last", "compile", "deterministic"),
    *("teacher.training.trainer.accelerator", "teacher.training.trainer.devices"),
}
_APPLIED_GROUPS = ("scheduler.", "callbacks.", "teacher.cache.")


class Resumed(NamedTuple):
    """The state that a run continues from.

    Attributes:
        checkpoint: its file.
        recorded: the identity of the run that saved it.
        changes: all changes of settings so far, those of this resumption included.
        changed: settings change with this resumption.
    """

    checkpoint: Path
    recorded: Identity
    changes: list[dict[str, Any]]
    changed: bool


def find_checkpoint(cfg: DictConfig, folder: Path) -> Resumed | None:
    """Return the state to resume from; None for a run that starts from the beginning.

    A run that was interrupted resumes from its own last checkpoint, otherwise from `resume`. The
    checkpoint of the best epoch is copied along.

    Raises:
        UserError: the checkpoint is missing, damaged, or does not fit; a setting beside `resume`
            cannot change within a run; or the run's folder holds a checkpoint of another
            configuration, which training would overwrite.
    """
    own, settings = RunFolder(folder), experiment_settings(cfg)
    file = _own_checkpoint(own, cfg, settings)
    if file is None and cfg.resume is not None:
        path = Path(cfg.resume)
        file = RunFolder(path).last if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"resume={cfg.resume}: there is no checkpoint {file}")
    if own.last.is_file() and (
        file is None or real_path(file.parent) != real_path(own.checkpoints)
    ):
        raise UserError(
            f"{own.last} belongs to a run with another configuration and would be overwritten; "
            "choose another folder with hydra.run.dir=…, delete this one, or continue that run's "
            f"training with resume={own.last}"
        )
    if file is None:
        return None
    content = read_file(file)
    try:
        _check_fits(file, content, cfg.optimizer._target_)
        resumed = _resumed(file, content, settings, cfg)
        _copy_best(file, content, own)
    except (LookupError, TypeError, AttributeError) as error:  # entries of other kinds
        said = f"{type(error).__name__}: {printable(error, 300)}"
        raise UserError(f"resume={file}: the checkpoint is damaged ({said})") from error
    log.info("resuming from %s", file)
    return resumed


def _own_checkpoint(folder: RunFolder, cfg: DictConfig, settings: Mapping[str, Any]) -> Path | None:
    """The last checkpoint in the run's folder, if the same configuration wrote it."""
    if not folder.last.is_file():
        return None
    try:
        content = read_file(folder.last)
    except UserError as error:
        raise UserError(f"{error}; delete {folder.checkpoints} to start over") from error
    recorded = _identity(content)
    if recorded is None or differing(recorded.settings, settings):
        return None
    # One whose settings were changed on resuming is another run than a straight one.
    return folder.last if cfg.resume is not None or not recorded.changes else None


def _identity(content: Any) -> Identity | None:
    try:
        return Identity.from_state(content[IDENTITY])
    except (TypeError, AttributeError, KeyError):
        return None


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


def _resumed(
    file: Path, content: Mapping[str, Any], settings: Mapping[str, Any], cfg: DictConfig
) -> Resumed:
    """Compare the settings with those of the checkpoint, and record what changes.

    Raises:
        UserError: a changed setting cannot be applied, or no epoch is left for it.
    """
    recorded = _identity(content)
    if recorded is None:
        raise UserError(f"resume={file}: not a checkpoint of a run of this version of kd")
    changes, done = differing(recorded.settings, settings), int(content[EPOCHS_DONE])
    # Two paths of the same class, such as torch.optim.SGD and torch.optim.sgd.SGD
    changes.pop("optimizer._target_", None)
    if fixed := {key: pair for key, pair in changes.items() if not _is_applied(key)}:
        # The identity has `given` in the place of a path.
        said = {
            key: (old, OmegaConf.select(cfg, key) if new == "given" else new)
            for key, (old, new) in fixed.items()
        }
        raise UserError(
            f"resume={file}: it was trained with {name_differences(said)}, which cannot change "
            "within a run; leave it as it was, or start a new run without resume"
        )
    if not changes:
        return Resumed(file, recorded, recorded.changes, changed=False)
    epochs = settings.get(_EPOCHS)
    if isinstance(epochs, int) and 0 <= epochs < done:
        raise UserError(
            f"resume={file}: {done} epochs are done, which is more than {_EPOCHS}={epochs}; choose "
            f"more than {done}, or start a new run without resume"
        )
    if epochs == done:
        raise UserError(
            f"resume={file}: {done} epochs are done, so {_EPOCHS}={epochs} leaves none in which "
            f"{_named(changes)} could take effect; choose more than {done} epochs"
        )
    change = {"epoch": done + 1, "step": int(content["global_step"])}
    pairs = {key: list(pair) for key, pair in changes.items()}
    log.info("from epoch %d on: %s", done + 1, _named(changes))
    return Resumed(file, recorded, [*recorded.changes, {**change, "settings": pairs}], changed=True)


def _is_applied(key: str) -> bool:
    return key in _APPLIED or key.startswith(_APPLIED_GROUPS)


def _named(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key}={new} instead of {old}" for key, (old, new) in changes.items())


def _copy_best(file: Path, content: Any, folder: RunFolder) -> None:
    """Copy the checkpoint of the best epoch so far to the run's folder, if there is one."""
    if content["callbacks"]["Checkpoints"]["best_score"] is None:
        return
    best = file.with_name(folder.best.name)
    if not best.is_file():
        raise UserError(f"resume={file}: {best}, the checkpoint of the best epoch, is missing")
    if real_path(best) != real_path(folder.best):
        read_file(best)  # raises for a damaged file, before it is copied
        check_regular(best)
        write_atomic(folder.best, best.read_bytes())
