"""Outputs of one teacher for the images of one data set, on disk, shared by all runs."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.documents import read_json
from kd.io.locks import locked
from kd.io.own_files import delete_folder, is_link
from kd.teachers.row_store import ROWS, RowStore

ABOUT = "about.json"
# Of a cache's folder, see `kd.training.teacher_cache`, and of what is in it
_NAME = re.compile(r"[^.].*-(train|test)-[0-9a-f]{12}")
_FILE = re.compile(rf"{re.escape(ABOUT)}|[^./][^/]*/{ROWS.pattern}")
# A file has at most 16 384 rows and 64 MiB: the work that is lost if its process dies.
_FILE_ROWS, _FILE_BYTES = 1 << 14, 1 << 26

Compute = Callable[[Tensor], Mapping[str, Tensor]]


class OutputCache:
    """A folder with one `RowStore` for each tensor of a teacher's outputs.

    Args:
        folder: created, with its parents, by the first `fill`.
        key: identity of everything that the outputs depend on.
        shapes: of one image's row, by tensor name.
        dtype: of the stored tensors.
        about: plain description for `python -m kd.cache`.
        tap_paths: module path of each tap; part of a store's name, because the same tap name on
            another module is another tensor.

    Attributes:
        stores: by tensor name.
        rows_a_file: rows that are computed, and written, at a time.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: torch.dtype,
        about: Mapping[str, Any],
        tap_paths: Mapping[str, str] | None = None,
    ) -> None:
        paths = tap_paths or {}
        names = {name: f"{name}@{paths.get(name, '')}".rstrip("@") for name in shapes}
        self.folder, self.about = folder, about
        self.stores = {
            name: RowStore(folder / names[name], f"{key} {names[name]}", shape, dtype)
            for name, shape in shapes.items()
        }
        size = sum(store.row_bytes for store in self.stores.values())
        self.rows_a_file = max(min(_FILE_ROWS, _FILE_BYTES // size), 1)

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
            for part in missing.split(self.rows_a_file):
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
            about = read_json(self.folder / ABOUT)
        except (OSError, UserError):
            return {}
        return about if isinstance(about, dict) else {}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = (path for path in self.folder.glob("*/*") if self.is_own(path))
        return sum(path.lstat().st_size for path in files)

    def is_own(self, path: Path) -> bool:
        """Return whether the cache writes a file, or makes a folder, of this path."""
        name = path.relative_to(self.folder)
        is_store = len(name.parts) == 1 and path.is_dir()
        return is_store or _FILE.fullmatch(name.as_posix()) is not None

    def clear(self) -> None:
        """Delete the cache; running jobs keep the files that they have mapped.

        Raises:
            UserError: the folder is a link, or holds what is no cache's; nothing is deleted.
        """
        if is_link(self.folder):
            raise UserError(f"{self.folder} is a symbolic link; remove the link itself")
        lock = self.folder.parent / f".{self.name}.lock"
        with locked(lock, f"waiting for the process that is filling {self.folder}"):
            delete_folder(self.folder, self.is_own)


def entries(root: Path) -> list[Entry]:
    """Return the caches below `root`, sorted by name; other folders are none, nor are links."""
    if not root.is_dir():
        return []
    named = (path for path in sorted(root.iterdir()) if _NAME.fullmatch(path.name))
    return [Entry(path) for path in named if path.is_dir() and not is_link(path)]
