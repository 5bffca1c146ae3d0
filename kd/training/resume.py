"""Resuming: which checkpoint a run starts from, and whether it fits."""

from pathlib import Path

from kd.callbacks.checkpoint import IDENTITY, OPTIMIZER
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder
from kd.io.weights import read_file

# What a state of a run has; Lightning's and ours
_PARTS = (
    *("state_dict", "pytorch-lightning_version", "callbacks", "plan", "stages"),
    *(IDENTITY, OPTIMIZER),
)


def begin_from(state: Path, folder: RunFolder, optimizer: str) -> None:
    """Make ready to go on from a state, with the best epoch up to then beside it.

    Args:
        state: the file.
        folder: the run's.
        optimizer: the name of the class of its optimizer, as configured.

    Raises:
        UserError: it is no state of a run, or of one that had another optimizer.
    """
    content = read_file(state)
    if not isinstance(content, dict) or any(part not in content for part in _PARTS):
        raise UserError(f"resume={state}: no state of a run of this version of kd")
    theirs = content[OPTIMIZER]
    if theirs.rpartition(".")[2] != optimizer.rpartition(".")[2]:
        raise UserError(
            f"resume={state}: the run had {theirs}, and optimizer._target_={optimizer} has nothing "
            "to go on from; name the same optimizer"
        )
    if content["callbacks"]["Checkpoints"]["best_score"] is None:
        return
    best = state.with_name(folder.best.name)
    if not best.is_file():
        raise UserError(f"resume={state}: {best}, with the best epoch up to then, is missing")
    if best.resolve() != folder.best.resolve():
        read_file(best)  # a damaged one is named here, and not copied
        write_atomic(folder.best, best.read_bytes())


def find_own(folder: RunFolder, identity: str) -> Path | None:
    """The state that this very run left in its folder when it was interrupted, if it left one.

    Raises:
        UserError: it is damaged.
    """
    path = folder.last
    if not path.is_file():
        return None
    try:
        found = read_file(path)
    except UserError as error:
        raise UserError(f"{error}; delete {folder.checkpoints} to begin anew") from error
    return path if isinstance(found, dict) and found.get(IDENTITY) == identity else None
