"""Loading of weights into a net, from checkpoints of any common kind."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.errors import UserError
from kd.io.checkpoint.kinds import torch_format
from kd.io.checkpoint.read import check_exists, damaged, open_checkpoint, read_safetensors
from kd.io.documents import read_json
from kd.io.run_folder import RunFolder
from kd.io.tensor_bounds import check_archive


def load_weights(net: nn.Module, path: Path, key: str | None = None, role: str = "teacher") -> None:
    """Load a checkpoint into `net`, every key exactly; no code of the file is run.

    Args:
        net: the net, changed in place.
        path: a run folder, a Lightning checkpoint, a state dict (bare or in other containers, with
            or without a prefix such as `module.`), a module that was saved whole, TorchScript, a
            safetensors file, or a folder of Hugging Face.
        key: path of the weights in the file, where several fit; None: the only ones.
        role: `teacher` or `student`, whose setting the messages name.

    Raises:
        UserError: a missing or unreadable file; keys or shapes that do not fit; weights that are
            no finite numbers.
    """
    checkpoint, own = open_checkpoint(path, f"{role}.checkpoint_key"), net.state_dict()
    try:
        weights = checkpoint.weights(own, key)
    except UserError as error:
        raise UserError(f"{error}{_trained_as(path)}") from error
    # Counters of batch norm, which files of torch < 0.4.1 lack, keep the value of a new net.
    net.load_state_dict({**own, **weights})


def kept_epoch(folder: Path, epoch: int) -> Path:
    """The file of a run's weights after `epoch`.

    Raises:
        UserError: the run saved no such weights; the message lists those that exist.
    """
    check_exists(folder)
    file = RunFolder(folder).epoch(epoch)
    if file.is_file():
        return file
    kept = RunFolder(folder).saved_epochs()
    there = f"it has {kept[0]} … {kept[-1]}" if kept else "a run keeps them with keep_epochs=true"
    raise UserError(f"teacher.epoch={epoch}: {folder} has no {file.relative_to(folder)}; {there}")


def read_file(file: Path) -> Any:
    """Read a checkpoint of a run of `kd`: tensors and plain values; no code of the file is run.

    Raises:
        UserError: the file is damaged, or holds other objects.
    """
    try:
        if torch_format(file) == "safetensors":
            return read_safetensors(file)
        check_archive(file)
        if zipfile.is_zipfile(file) and (part := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the checksum of its {part} differs")
        with warnings.catch_warnings():
            # Of an old pickle protocol, right before the refusal that is reported below.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"checkpoint {file} is no checkpoint of a run: it is damaged, or loading it could run "
            "foreign code, so it was not loaded"
        ) from None
    except (MemoryError, UserError):
        raise
    except Exception as error:  # what damaged bytes unpickle to can fail in any way
        raise damaged(file, error) from None


def _trained_as(path: Path) -> str:
    """Name the net and the data of a run folder, if it has a result."""
    try:
        result = read_json(RunFolder(path).result)
        return f"\nThe folder holds a student={result['student']} trained on {result['data']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
