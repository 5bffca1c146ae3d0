"""Tensors and a few strings in one file that is either right or noticed not to be."""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from torch import Tensor, uint8

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """What a cache file holds: tensors by name, and notes."""

    tensors: dict[str, Tensor]
    notes: list[str]


def read(path: Path, key: str, names: Collection[str] | None = None) -> Stored | None:
    """The file's content, or None if it is not there, was made for another key or is damaged.

    The tensors are views of the mapped file. Only those of `names` are read and checked, if given.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            wanted = file.keys() if names is None else names
            tensors = {name: file.get_tensor(name) for name in wanted}
        sums = json.loads(about["checksums"])
        if _checksums(tensors) == {name: sums[name] for name in tensors}:
            return Stored(tensors, json.loads(about["notes"]))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        log.warning("%s is damaged (%s) and is made again", path, error)
        return None
    log.warning("%s is damaged (its checksum differs) and is made again", path)
    return None


def write(path: Path, key: str, stored: Stored) -> None:
    """Write beside the place, then rename: no reader ever sees half a file. OSError if it fails.

    The caller holds the lock of `first_writable`; what a killed writer left is cleared away.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    about = {
        "key": key,
        "checksums": json.dumps(_checksums(stored.tensors)),
        "notes": json.dumps(stored.notes),
    }
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(stored.tensors, temporary, about)
        temporary.chmod(mode)  # safetensors leaves 0600, which shuts out the others of a group
        temporary.replace(path)
    except SafetensorError as error:  # a full disk, among others
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A plain safetensors file whose metadata have checksums, which `is_intact` compares."""
    from safetensors.torch import save

    ours = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(ours, {"checksums": json.dumps(_checksums(ours))})


def is_intact(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether the tensors are those the file was written with; True where it has no checksums.

    Raises:
        OSError, ValueError, SafetensorError: the file cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
    return "checksums" not in about or json.loads(about["checksums"]) == _checksums(tensors)


@contextlib.contextmanager
def first_writable(paths: Sequence[Path]) -> Iterator[Path | None]:
    """Lock the first path whose folder can be written (made if need be); None if there is none."""
    for path in paths:
        lock = FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError):  # the latter: a file system without locks
            continue
        try:
            yield path
        finally:
            lock.release()
        return
    yield None


def _checksums(tensors: dict[str, Tensor]) -> dict[str, int]:
    """By name; of the bytes, since NumPy knows no bfloat16."""
    return {k: zlib.crc32(tensors[k].reshape(-1).view(uint8).numpy().data) for k in sorted(tensors)}
