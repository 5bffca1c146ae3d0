"""Containers that `torch.save` writes: zip archives, files of older versions, and plain pickles."""

import io
import mmap
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from kd.io.checkpoint.pickles import PickleError, PickleReader, StandIn
from kd.io.checkpoint.stored import REBUILD, Storage, quantised_bytes, storage_dtype
from kd.io.tensor_bounds import check_archive

_MAX_PICKLE = 1 << 28  # bytes of the pickle in an archive, which names the tensors
_LOAD_FROM_BYTES = "torch.storage._load_from_bytes"
_MAGIC = 0x1950A86A20F9469CFC6C  # first value in a file of torch < 1.6


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        value: containers, scalars, stored tensors, and stand-ins for all other objects.
        names: classes and functions that the file names, of which stand-ins were made.
    """

    value: Any
    names: tuple[str, ...] = ()


def read_archive(file: Path) -> Content:
    """Read a zip archive of `torch.save` (torch ≥ 1.6) or of `torch.jit.save`.

    Raises:
        PickleError, BadZipFile: it is damaged.
        UserError: it would unpack to many times its size.
    """
    check_archive(file)
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    name = next(name for name in members if is_main(name))
    root = name.removesuffix("data.pkl")
    if members[name].file_size > _MAX_PICKLE:
        raise PickleError(f"{name} has {members[name].file_size} bytes")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise PickleError("it was written on a big-endian machine; load and save it there")

    def storage(key: str) -> bytearray:
        if f"{root}data/{key}" not in members:
            raise PickleError(f"its storage {key} is missing")
        return bytearray(archive.read(f"{root}data/{key}"))

    reader = PickleReader(REBUILD, _Storages(storage).by_identity)
    return Content(reader.read(io.BytesIO(archive.read(name))), tuple(reader.names))


def is_main(member: str) -> bool:
    """Return whether a member of an archive is the pickle that names the tensors."""
    return member == "data.pkl" or (member.endswith("/data.pkl") and member.count("/") == 1)


def read_pickle(file: Path) -> Content:
    """Read a plain pickle, or a file of torch < 1.6.

    Raises:
        PickleError: it is damaged.
    """
    with file.open("rb") as opened:
        return _read_stream(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def _read_stream(stream: mmap.mmap | io.BytesIO, nested: bool = False) -> Content:
    file = cast(BinaryIO, stream)
    raw: dict[str, Callable[[], bytearray]] = {}
    storages = _Storages(lambda key: raw[key]() if key in raw else _missing(key))
    nested_storages = {} if nested else {_LOAD_FROM_BYTES: _NestedStorages()}
    reader = PickleReader({**REBUILD, **nested_storages}, storages.by_identity)
    value = reader.read(file)
    if value != _MAGIC:
        return Content(value, tuple(reader.names))
    for _ in ("protocol", "system"):
        reader.read(file)
    value = reader.read(file)
    keys = reader.read(file)
    if not isinstance(keys, list):
        raise PickleError("the list of storages is missing")
    raw.update(_sections(stream, keys, storages.sizes))
    return Content(value, tuple(reader.names))


def _sections(
    stream: mmap.mmap | io.BytesIO, keys: list[Any], sizes: dict[str, int]
) -> dict[str, Callable[[], bytearray]]:
    """Find the raw values of each storage: an int64 with their number, then the values."""
    buffer = stream.getbuffer() if isinstance(stream, io.BytesIO) else memoryview(stream)
    place, found = stream.tell(), {}
    for key in map(str, keys):
        count = int.from_bytes(buffer[place : place + 8], "little", signed=True)
        start, end = place + 8, place + 8 + count * sizes.get(key, 0)
        if count < 0 or end > len(buffer):
            raise PickleError(f"it ends within storage {key}")
        found[key] = _section(buffer, start, end)
        place = end
    return found


def _section(buffer: memoryview, start: int, end: int) -> Callable[[], bytearray]:
    return lambda: bytearray(buffer[start:end])


def _missing(key: str) -> bytearray:
    raise PickleError(f"its storage {key} is missing")


class _Storages:
    """Storages by the persistent ids of torch's pickles.

    Args:
        read: returns the raw bytes of a storage by its key.

    Attributes:
        sizes: bytes of one value, by key.
    """

    def __init__(self, read: Callable[[str], bytearray]) -> None:
        self._read = read
        self.sizes: dict[str, int] = {}

    def by_identity(self, identity: Any) -> Any:
        if not isinstance(identity, tuple) or not identity:
            return StandIn("persistent object")
        if identity[0] == "module" and len(identity) > 1:  # a class with its source code
            return identity[1]
        if identity[0] != "storage" or len(identity) < 3 or not isinstance(identity[2], str):
            return StandIn("persistent object")
        try:
            dtype = storage_dtype(identity[1])
        except PickleError:
            # Unread, but the sections of the storages behind it begin after its values.
            self.sizes[identity[2]] = quantised_bytes(identity[1])
            return StandIn(getattr(identity[1], "name", "storage"))
        key = identity[2]
        self.sizes[key] = 1 if dtype is None else dtype.itemsize
        return Storage(dtype, lambda: self._read(key))


class _NestedStorages:
    """Storages within a plain pickle, each a file of torch < 1.6 of its own."""

    def __init__(self) -> None:
        # A pickle may refer to the same content a million times.
        self._read: dict[int, tuple[Any, Any]] = {}

    def __call__(self, content: Any, *_: Any) -> Any:
        if not isinstance(content, str | bytes | bytearray):
            raise PickleError("a storage has no bytes")
        if id(content) not in self._read:
            # Protocols below 3 have no bytes, and store them as a text.
            raw = content.encode("latin1") if isinstance(content, str) else content
            self._read[id(content)] = content, _read_stream(io.BytesIO(raw), nested=True).value
        return self._read[id(content)][1]


def starts_pickle(head: bytes) -> bool:
    """Return whether a file begins as a pickle: of a dictionary, for protocols 0 and 1."""
    if head[:1] == pickle.PROTO:
        return head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return head.startswith((b"(dp", b"}q", b"ccollections\nOrderedDict\n"))
