"""Safetensors files with a checksum for each tensor.

A cache file (`read`, `write`) also names what it was made for, and is made again if it is damaged.
A weights file (`safetensors_bytes`, `is_intact`) is an ordinary safetensors file that any tool
loads; the checksums are in its metadata.
"""

import contextlib
import json
import logging
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, uint8

from kd.io.atomic import replacing
from kd.io.documents import parse_json
from kd.io.locks import locked
from kd.io.own_files import remove_unfinished
from kd.io.tensor_bounds import check_safetensors

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """Content of a cache file.

    Attributes:
        tensors: by name.
        notes: strings that belong to them, such as class names.
    """

    tensors: dict[str, Tensor]
    notes: list[str]


def read(path: Path, key: str, names: Collection[str] | None = None) -> Stored | None:
    """Read a cache file; None if it does not exist, has another key, or is damaged.

    Args:
        path: the file.
        key: what the file should have been written for.
        names: the tensors to read and to check; None: all.

    Returns:
        Tensors that are views of the memory-mapped file, and the notes.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            wanted = file.keys() if names is None else names
            tensors = {name: file.get_tensor(name) for name in wanted}
        sums = parse_json(metadata["checksums"])
        if _checksums(tensors) == {name: sums[name] for name in tensors}:
            return Stored(tensors, parse_json(metadata["notes"]))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        log.warning("%s is damaged (%s): computing it again", path, error)
        return None
    log.warning("%s is damaged (a checksum differs): computing it again", path)
    return None


def write(path: Path, key: str, stored: Stored) -> None:
    """Write a cache file atomically. The caller holds the lock of `first_writable`.

    Unfinished files of this name, which a killed process left, are deleted.

    Args:
        path: the file.
        key: what the file is written for.
        stored: its content.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    metadata = {
        "key": key,
        "checksums": json.dumps(_checksums(stored.tensors)),
        "notes": json.dumps(stored.notes),
    }
    remove_unfinished(path.parent, lambda target: target == path)
    # Not synchronised: the checksums detect a file that a power failure has damaged.
    with replacing(path, sync=False) as temporary:
        try:
            save_file(stored.tensors, temporary, metadata)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error


def safetensors_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the content of a weights file.

    Args:
        tensors: by name, on any device.
        metadata: strings by name, which the file holds beside the checksums.
    """
    from safetensors.torch import save

    ours = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(ours, {**(metadata or {}), "checksums": json.dumps(_checksums(ours))})
    return _with_sorted_metadata(content)


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shapes of the tensors in a safetensors file by name; no tensor is read.

    Raises:
        OSError, SafetensorError: the file cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def _with_sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file's content with its metadata in order of key.

    safetensors writes them in an order that differs between processes, so that two runs with equal
    weights would leave different files. https://github.com/huggingface/safetensors#format
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def is_intact(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Return whether tensors are those that a weights file was written with.

    Args:
        path: a safetensors file; without checksums, as other tools write it, it counts as intact.
        tensors: what was read from it.

    Raises:
        OSError, ValueError, SafetensorError: the file cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return "checksums" not in metadata or parse_json(metadata["checksums"]) == _checksums(tensors)


@contextlib.contextmanager
def first_writable(paths: Sequence[Path]) -> Iterator[Path | None]:
    """Lock and yield the first path whose folder can be written; None if there is none.

    Args:
        paths: candidates for one cache file, best first; their folders are created.
    """
    for path in paths:
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                waiting = f"waiting for the process that writes {path}"
                stack.enter_context(locked(Path(f"{path}.lock"), waiting))
            except OSError:  # read-only, or a file system without locks
                continue
            yield path
            return
    yield None


def _checksums(tensors: dict[str, Tensor]) -> dict[str, int]:
    """CRC-32 by name, of the raw bytes: NumPy has no bfloat16."""
    return {k: zlib.crc32(tensors[k].reshape(-1).view(uint8).numpy().data) for k in sorted(tensors)}
