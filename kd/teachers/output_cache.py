"""Outputs of one teacher for the images of one data set, on disk, shared by all runs."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.io.atomic import write_atomic
from kd.io.locks import locked
from kd.teachers.row_store import RowStore

ABOUT = "about.json"
# A file has at most 16 384 rows and 64 MiB: the work that is lost if its process dies.
_FILE_ROWS, _FILE_BYTES = 1 << 14, 1 << 26

Compute = Callable[[Tensor], Mapping[str, Tensor]]


class OutputCache:
    """A folder with one `RowStore` for each tensor of a teacher's outputs.

    Args:
        folder: created, with its parents, by the first `fill`.
        key: identity of everything that the outputs depend on.
        row_bytes: size of one image's row, by tensor name.
        about: plain description for `python -m kd.cache`.
        tap_paths: module path of each tap; part of a store's name, because the same tap name on
            another module is another tensor.

    Attributes:
        stores: by tensor name.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        row_bytes: Mapping[str, int],
        about: Mapping[str, Any],
        tap_paths: Mapping[str, str] | None = None,
    ) -> None:
        paths = tap_paths or {}
        names = {name: f"{name}@{paths.get(name, '')}".rstrip("@") for name in row_bytes}
        self.folder, self.about = folder, about
        self.stores = {
            name: RowStore(folder / names[name], f"{key} {names[name]}", size)
            for name, size in row_bytes.items()
        }
        self._rows_a_file = max(min(_FILE_ROWS, _FILE_BYTES // sum(row_bytes.values())), 1)

    def missing(self, ids: Tensor) -> Tensor:
        """Return which of ids [M] lack a row in any store -> bool [M]."""
        lacking = torch.zeros(len(ids), dtype=torch.bool)
        for store in self.stores.values():
            store.refresh()
            lacking |= store.missing(ids)
        return lacking

    def fill(self, ids: Tensor, compute: Compute) -> int:
        """Compute and store the missing rows of ids [M].

        If several processes need the same rows, one computes them and the others wait.

        Args:
            ids: int64 [M].
            compute: maps missing ids [m] to rows by tensor name.

        Returns:
            The number of ids that were computed.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        if not self.missing(ids).any():
            return 0
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.parent / f".{self.folder.name}.lock"
        with locked(lock, f"waiting for the process that is filling {self.folder}"):
            missing = ids[self.missing(ids)].unique()  # another process may have computed some
            if not len(missing):
                return 0
            about = json.dumps(dict(self.about), indent=2) + "\n"
            write_atomic(self.folder / ABOUT, about.encode())
            for part in missing.split(self._rows_a_file):
                self._append(part, compute(part))
        return len(missing)

    def _append(self, ids: Tensor, rows: Mapping[str, Tensor]) -> None:
        for name, store in self.stores.items():
            new = store.missing(ids)
            if new.any():
                store.append(ids[new], rows[name][new])


class Entry:
    """One cache below a root folder, as listed by `python -m kd.cache`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def about(self) -> dict[str, Any]:
        """The cache's description; empty if it cannot be read."""
        try:
            about = json.loads((self.folder / ABOUT).read_text())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def clear(self) -> None:
        """Delete the cache; running jobs keep the files that they have mapped."""
        lock = self.folder.parent / f".{self.name}.lock"
        with locked(lock, f"waiting for the process that is filling {self.folder}"):
            shutil.rmtree(self.folder, ignore_errors=True)


def entries(root: Path) -> list[Entry]:
    """Return the caches below `root`, sorted by name."""
    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [Entry(folder) for folder in sorted(folders)]
