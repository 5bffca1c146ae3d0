"""Opening of a checkpoint: what a file is, and all of its tensors, without running its code."""

import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from kd.errors import UserError, nearest
from kd.io.checkpoint.containers import Content, read_archive, read_pickle
from kd.io.checkpoint.flatten import Leaf, flatten
from kd.io.checkpoint.folders import weights_files
from kd.io.checkpoint.kinds import torch_format
from kd.io.checkpoint.names import shorten
from kd.io.checkpoint.opened import Checkpoint
from kd.io.checkpoint.pickles import PickleError
from kd.io.checkpoint.stored import StoredTensor
from kd.io.printable import printable
from kd.io.tensor_bounds import check_safetensors
from kd.io.tensors import is_intact


def open_checkpoint(path: Path, option: str = "teacher.checkpoint_key") -> Checkpoint:
    """Open a file or folder of weights; no code of it is run.

    Args:
        path: a run folder, a folder of Hugging Face, a safetensors file, or anything that
            `torch.save`, `torch.jit.save` or `pickle.dump` wrote.
        option: the setting that names a path within the checkpoint, for messages.

    Raises:
        UserError: there is no such file; it is damaged, of another kind, or holds no tensors.
    """
    check_exists(path)
    files = weights_files(path)
    contents = [_read(file) for file in files]
    leaves: dict[str, Leaf] = {}
    for file, content in zip(files, contents, strict=True):
        try:
            leaves |= flatten(content.value)
        except UserError as error:
            raise UserError(f"checkpoint {file} is damaged: {error}") from None
    names = dict.fromkeys(name for content in contents for name in content.names)
    leaves.pop("", None)  # a tensor without a name
    if not leaves:
        raise UserError(_no_tensors(files[0], contents[0], tuple(names)))
    value = contents[0].value
    entries = frozenset(_keys(value))
    return Checkpoint(path, tuple(files), leaves, entries, tuple(names), option)


def check_exists(path: Path) -> None:
    """Refuse a path without file or folder, with the nearest names beside it.

    Raises:
        UserError: there is nothing at the path.
    """
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
        raise UserError(f"checkpoint {path} cannot be opened: {error}") from None
    if not exists:
        raise UserError(f"checkpoint {path} does not exist{_siblings(path)}")


def _siblings(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor does the folder {path.parent})"
    try:
        names = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    except OSError:
        return f"; {path.parent} cannot be read"
    guess = nearest(path.name, names).partition("?")
    hint = f"{guess[0]}? " if guess[1] else ""
    return f"; {hint}{path.parent} holds: {shorten(names) or 'nothing'}"


def _read(file: Path) -> Content:
    try:
        kind = torch_format(file)
        if kind == "safetensors":
            return Content(read_safetensors(file))
        return read_archive(file) if kind == "archive" else read_pickle(file)
    except (UserError, MemoryError):
        raise
    # What damaged bytes lead to in zipfile, pickletools and safetensors
    except (PickleError, SafetensorError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise damaged(file, error) from None
    except (LookupError, EOFError, RuntimeError, NotImplementedError) as error:
        raise damaged(file, error) from None


def damaged(file: Path, error: Exception) -> UserError:
    """Return the message on a file that cannot be read."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    size = file.stat().st_size
    return UserError(
        f"checkpoint {file} ({size} bytes) is damaged or of an unknown format: {printable(reason)}"
    )


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file, with its checksums if it has any.

    Raises:
        SafetensorError, OSError, ValueError: it is damaged.
    """
    from safetensors.torch import load

    # From memory: `load_file` maps the file, and a file that is replaced meanwhile would end the
    # process with SIGBUS.
    check_safetensors(file)
    tensors = load(file.read_bytes())
    if not is_intact(file, tensors):
        raise ValueError("its checksums differ")
    return tensors


def _keys(value: Any) -> list[str]:
    return [key for key in value if isinstance(key, str)] if isinstance(value, dict) else []


def _no_tensors(file: Path, content: Content, names: tuple[str, ...]) -> str:
    value: Any = content.value
    kind = getattr(value, "name", type(value).__name__)
    kind = "one tensor, without a name" if isinstance(value, StoredTensor) else kind
    keys = f" with the keys {shorten(_keys(value))}" if _keys(value) else ""
    classes = [name for name in names if not name.startswith("torch.")]
    said = f"; it names {shorten(classes, 4)}, which was not run" if classes else ""
    if str(kind).startswith("__torch__."):
        return (
            f"checkpoint {file} is a frozen TorchScript module, whose weights are constants of its "
            "code; save those of the net that it was made from: torch.save(net.state_dict(), "
            "'weights.pt')"
        )
    return (
        f"checkpoint {file} holds no state dict (found {printable(str(kind))}{keys}{said}); save "
        "the net's weights: torch.save(net.state_dict(), 'weights.pt')"
    )
