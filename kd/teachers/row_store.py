"""Rows of one tensor by id, on disk: a folder that grows by whole files, each checked and final."""

import logging
import uuid
from pathlib import Path

import torch
from torch import Tensor

from kd.io import tensors as tensor_file
from kd.io.tensors import Stored

log = logging.getLogger(__name__)
ROW = 32  # a place is file << ROW | row


class RowStore:
    """Rows [...] of one shape and type, found by a whole number each, in memory-mapped files.

    A file is written under another name and renamed, so that a reader sees all of it or nothing;
    one whose checksum differs is thrown away, and its rows are missing again. Reading needs no
    lock; writers take turns (`OutputCache`).

    Args:
        folder: where the files lie; made by the first `append`.
        key: what the rows are of; files of another key are thrown away.
        row_bytes: size of one row.
    """

    def __init__(self, folder: Path, key: str, row_bytes: int) -> None:
        self.folder, self.key, self.row_bytes = folder, key, row_bytes
        self._files: list[Path] = []
        self._checked: dict[int, Tensor] = {}  # the rows of a file, once its checksum was right
        self._ids = torch.empty(0, dtype=torch.int64)  # sorted
        self._places = torch.empty(0, dtype=torch.int64)  # of the ids

    def refresh(self) -> None:
        """Take in the files that others have written meanwhile."""
        known = set(self._files)
        for path in sorted(self.folder.glob("*.safetensors")):
            if path in known:
                continue
            stored = tensor_file.read(path, self.key, ["ids"])
            if stored is None:
                path.unlink(missing_ok=True)
            else:
                self._add(path, stored.tensors["ids"])

    def missing(self, ids: Tensor) -> Tensor:
        """Which of the ids [M] have no row -> bool [M]; checks the files of those that have."""
        while True:
            tap_paths, found = self._locate(ids)
            unchecked = [n for n in _files_of(tap_paths[found]) if n not in self._checked]
            if all(self._check(number) for number in unchecked):
                return ~found

    def gather(self, ids: Tensor) -> Tensor:
        """The rows [M, ...] of ids [M] that `missing` found to be there, in the type kept."""
        tap_paths, _ = self._locate(ids)
        numbers, rows = tap_paths >> ROW, tap_paths & ((1 << ROW) - 1)
        parts = [(number, self._checked[number]) for number in _files_of(tap_paths)]
        if len(parts) == 1:
            return parts[0][1].index_select(0, rows)
        gathered = parts[0][1].new_empty(len(ids), *parts[0][1].shape[1:])
        for number, part in parts:
            at = (numbers == number).nonzero().squeeze(1)
            gathered.index_copy_(0, at, part.index_select(0, rows[at]))
        return gathered

    def append(self, ids: Tensor, rows: Tensor) -> None:
        """Keep rows [M, ...] of ids [M] for good. OSError if that fails; nothing is left then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        tensors = {"ids": ids.contiguous(), "rows": rows.contiguous()}
        tensor_file.write(path, self.key, Stored(tensors, []))
        self._add(path, ids)
        if not self._check(len(self._files) - 1):
            raise OSError(f"{path} reads otherwise than it was written")

    def _add(self, path: Path, ids: Tensor) -> None:
        number = len(self._files)
        self._files.append(path)
        tap_paths = torch.arange(len(ids)) + (number << ROW)
        self._index(torch.cat([self._ids, ids]), torch.cat([self._places, tap_paths]))

    def _index(self, ids: Tensor, tap_paths: Tensor) -> None:
        self._ids, order = ids.sort(stable=True)
        self._places = tap_paths[order]

    def _locate(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Places [M] of the ids, and whether they are there at all, bool [M]."""
        if len(self._ids) == 0:
            return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        at = torch.searchsorted(self._ids, ids).clamp_max(len(self._ids) - 1)
        return self._places[at], self._ids[at] == ids

    def _check(self, number: int) -> bool:
        """Read a file's rows; forget a file that is damaged or gone."""
        path = self._files[number]
        stored = tensor_file.read(path, self.key, ["rows"])
        if stored is not None:
            self._checked[number] = stored.tensors["rows"]
            return True
        path.unlink(missing_ok=True)
        others = self._places >> ROW != number
        self._index(self._ids[others], self._places[others])
        return False


def _files_of(tap_paths: Tensor) -> list[int]:
    return (tap_paths >> ROW).unique().tolist()
