"""Rows of a tensor by id, on disk: immutable, checksummed, memory-mapped files."""

import contextlib
import logging
import math
import re
import uuid
from pathlib import Path

import torch
from torch import Tensor

from kd.io import tensors as tensor_file
from kd.io.own_files import is_link
from kd.io.tensors import Stored

log = logging.getLogger(__name__)

ROWS = re.compile(r"[0-9a-f]{32}\.safetensors")  # names of the files
# A location packs file and row into one int64, file << 32 | row, so that ids and locations are two
# sorted tensors: 16 bytes an id, and a lookup is one searchsorted.
_ROW_BITS = 32


class RowStore:
    """Rows […] of one shape and dtype, each found by an integer id.

    A file is renamed into place once it is complete, so readers need no lock; writers hold the lock
    of `OutputCache`. A file with a wrong checksum is deleted, and its rows are missing again; so is
    one whose content is not what it should be, although its key and its checksums fit.

    Args:
        folder: of the files; created by the first `append`.
        key: identity of the rows' content; files with another key are deleted.
        shape: of one row.
        dtype: of the rows.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.folder, self.key, self.shape, self.dtype = folder, key, shape, dtype
        self.row_bytes = math.prod(shape) * dtype.itemsize
        self._files: list[Path] = []
        self._rows: dict[int, Tensor] = {}  # mapped rows by file, once their checksum is verified
        self._ids = torch.empty(0, dtype=torch.int64)  # sorted
        self._locations = torch.empty(0, dtype=torch.int64)  # of the ids

    def refresh(self) -> None:
        """Index the files that other processes have written."""
        known = set(self._files)
        for path in sorted(self.folder.glob("*.safetensors")):
            if path in known or not ROWS.fullmatch(path.name):
                continue
            stored = tensor_file.read(path, self.key, ["ids"])
            if stored is None or not _are_ids(path, stored.tensors["ids"]):
                self._delete(path)
            else:
                self._add(path, stored.tensors["ids"])

    def missing(self, ids: Tensor) -> Tensor:
        """Return which of ids [M] have no row -> bool [M]; verifies the files of the others."""
        while True:
            locations, found = self._locate(ids)
            unverified = [n for n in _files_of(locations[found]) if n not in self._rows]
            if all(self._verify(number) for number in unverified):
                return ~found

    def gather(self, ids: Tensor) -> Tensor:
        """Return the rows [M, …] of ids [M], none of which is `missing`."""
        locations, _ = self._locate(ids)
        numbers, rows = locations >> _ROW_BITS, locations & ((1 << _ROW_BITS) - 1)
        parts = [(number, self._rows[number]) for number in _files_of(locations)]
        if len(parts) == 1:  # the usual case: an epoch that was computed at once
            return parts[0][1].index_select(0, rows)
        gathered = parts[0][1].new_empty(len(ids), *parts[0][1].shape[1:])
        for number, part in parts:
            at = (numbers == number).nonzero().squeeze(1)
            gathered.index_copy_(0, at, part.index_select(0, rows[at]))
        return gathered

    def append(self, ids: Tensor, rows: Tensor) -> None:
        """Write rows [M, …] of ids [M] as a new file.

        Raises:
            OSError: the file cannot be written or reads back differently; nothing is left of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        tensors = {"ids": ids.contiguous(), "rows": rows.contiguous()}
        tensor_file.write(path, self.key, Stored(tensors, []))
        self._add(path, ids)
        if not self._verify(len(self._files) - 1):
            raise OSError(f"{path} reads back differently than it was written")

    def _add(self, path: Path, ids: Tensor) -> None:
        number = len(self._files)
        self._files.append(path)
        locations = torch.arange(len(ids)) + (number << _ROW_BITS)
        self._index(torch.cat([self._ids, ids]), torch.cat([self._locations, locations]))

    def _index(self, ids: Tensor, locations: Tensor) -> None:
        self._ids, order = ids.sort(stable=True)
        self._locations = locations[order]

    def _locate(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the locations [M] of ids, and whether they exist, bool [M]."""
        if len(self._ids) == 0:
            return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        at = torch.searchsorted(self._ids, ids).clamp_max(len(self._ids) - 1)
        return self._locations[at], self._ids[at] == ids

    def _verify(self, number: int) -> bool:
        """Map a file's rows and verify them; drop the file if it is damaged or deleted."""
        path = self._files[number]
        stored = tensor_file.read(path, self.key, ["ids", "rows"])
        if stored is not None and self._are_rows(path, **stored.tensors):
            self._rows[number] = stored.tensors["rows"]
            return True
        self._delete(path)
        others = self._locations >> _ROW_BITS != number
        self._index(self._ids[others], self._locations[others])
        return False

    def _are_rows(self, path: Path, ids: Tensor, rows: Tensor) -> bool:
        expected = (len(ids), *self.shape)
        if rows.shape != expected or rows.dtype != self.dtype:
            found = f"{list(rows.shape)} {rows.dtype}, not {list(expected)} {self.dtype}"
            log.warning("%s has rows of %s: computing them again", path, found)
            return False
        if not rows.isfinite().all():
            log.warning("%s has values that are not finite: computing them again", path)
            return False
        return True

    def _delete(self, path: Path) -> None:
        """Delete an unusable file, unless a link leads elsewhere or the folder is read-only."""
        if not any(map(is_link, (path, self.folder, self.folder.parent))):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _are_ids(path: Path, ids: Tensor) -> bool:
    if ids.dtype == torch.int64 and ids.dim() == 1:
        return True
    log.warning("%s has ids of %s %s: computing its rows again", path, list(ids.shape), ids.dtype)
    return False


def _files_of(locations: Tensor) -> list[int]:
    return (locations >> _ROW_BITS).unique().tolist()
