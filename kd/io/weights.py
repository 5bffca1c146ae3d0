"""Loading of weights from checkpoints of various formats; misfits are listed."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.tensors import is_intact

# Keys under which training scripts store a state dict in a checkpoint
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# Prefixes that DataParallel, torch.compile, Lightning modules and others put before a net's keys
_PREFIXES = ("module.", "_orig_mod.", "student.", "model.", "net.", "network.", "backbone.")

_LISTED = 8  # names in a message; the others are counted


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a checkpoint into `net`, every key exactly.

    Args:
        net: the net, changed in place.
        path: a run folder, a Lightning checkpoint, a plain state dict (bare or in a `state_dict`
            wrapper, with or without a prefix such as `module.`), or a safetensors file.

    Raises:
        UserError: a missing, unreadable or unsafe file; keys or shapes that do not fit.
    """
    _check_exists(path)
    file = RunFolder(path).weights if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"the folder {path} has no {file.name}; name a finished run or a file")
    weights = _without_prefixes(_tensors(read_file(file), file), net.state_dict())
    problems = _misfits(net, weights)
    if problems:
        raise UserError(f"checkpoint {path} does not fit the net{_trained_as(path)}:\n{problems}")
    net.load_state_dict(weights)


def kept_epoch(folder: Path, epoch: int) -> Path:
    """The file of a run's weights after `epoch`.

    Raises:
        UserError: the run saved no such weights; the message lists those that exist.
    """
    _check_exists(folder)
    file = RunFolder(folder).epoch(epoch)
    if file.is_file():
        return file
    kept = RunFolder(folder).saved_epochs()
    there = f"it has {kept[0]} … {kept[-1]}" if kept else "a run keeps them with keep_epochs=true"
    raise UserError(f"teacher.epoch={epoch}: {folder} has no {file.relative_to(folder)}; {there}")


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist{_siblings(path)}")


def read_file(file: Path) -> Any:
    """Read tensors and plain values; no code of the file is run.

    Raises:
        UserError: the file is damaged, or holds other objects.
    """
    try:
        if file.suffix == ".safetensors":
            tensors = load_file(file)
            if not is_intact(file, tensors):
                raise ValueError("its checksums differ")
            return tensors
        if zipfile.is_zipfile(file) and (part := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the checksum of its {part} differs")
        with warnings.catch_warnings():
            # Of an old pickle protocol, right before the refusal that is reported below.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"checkpoint {file} is not a plain file of tensors: it is damaged, or loading it could "
            f"run foreign code, so it was not loaded. If it is intact, save the net's state_dict() "
            f"alone"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # what damaged bytes unpickle to can fail in any way
        raise UserError(
            f"checkpoint {file} ({file.stat().st_size} bytes) is damaged or of an unknown format: "
            f"{_first_line(error)}"
        ) from None


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"checkpoint {file} holds no state dict (found {type(content).__name__})")
    return {str(key): value for key, value in content.items() if torch.is_tensor(value)}


def _without_prefixes(weights: dict[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Strip up to three wrappers' prefixes, whichever make the most keys fit.

    A Lightning checkpoint of a distillation has `objectives.` beside `student.`; only the net's own
    keys are taken.
    """
    best = level = [weights]
    for _ in range(3):
        level = [inner for outer in level for p in _PREFIXES if (inner := _below(outer, p))]
        best = best + level
    return max(best, key=lambda candidate: len(candidate.keys() & wanted.keys()))


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _misfits(net: nn.Module, weights: Mapping[str, Tensor]) -> str:
    wanted = net.state_dict()
    shapes = [
        f"{key} {list(weights[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in weights and weights[key].shape != wanted[key].shape
    ]
    lists = {
        "missing in the file": [key for key in wanted if key not in weights],
        "unknown to the net": [key for key in weights if key not in wanted],
        "of another shape": shapes,
    }
    lines = [f"  {what} ({len(v)}): {_shorten(v)}" for what, v in lists.items() if v]
    return "\n".join(lines + _hints(net, weights) if lines else [])


def _hints(net: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Explain shape mismatches of the first and last layer by channels and classes."""
    layers = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{name}.weight" in weights
    ]
    if not layers:
        return []
    (first, stem), (last, head) = layers[0], layers[-1]
    hints = []
    theirs, ours = weights[f"{first}.weight"].shape, stem.weight.shape
    if len(theirs) == len(ours) and theirs[1] != ours[1]:
        hints.append(f"  it is for {theirs[1]} input channels or features, not {ours[1]}")
    theirs, ours = weights[f"{last}.weight"].shape, head.weight.shape
    if len(theirs) == len(ours) and theirs[0] != ours[0]:
        hints.append(f"  it is for {theirs[0]} classes; these data have {ours[0]}")
    return hints


def _trained_as(path: Path) -> str:
    """Name the net and the data of a run folder, if it has a result."""
    try:
        result = json.loads(RunFolder(path).result.read_text())
        return f"; the folder holds a student={result['student']} trained on {result['data']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _siblings(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor does the folder {path.parent})"
    names = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    return f"; {path.parent} holds: {_shorten(names) or 'nothing'}"


def _shorten(names: list[str]) -> str:
    rest = f", … ({len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
