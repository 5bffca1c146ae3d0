"""What one teacher answers to the images of one data set, on disk for all runs."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.io.locks import locked
from kd.teachers.row_store import RowStore

ABOUT = "about.json"
# One file's worth of answers is lost at most when the process that computes them dies.
_FILE_ROWS, _FILE_BYTES = 1 << 14, 1 << 26

Compute = Callable[[Tensor], Mapping[str, Tensor]]


class OutputCache:
    """A folder with one `RowStore` for every tensor of a teacher's outputs.

    Args:
        folder: made, with its parents, by the first filling.
        key: identity of all that the answers depend on.
        row_bytes: for every tensor by its name, the size of one image's answer.
        about: plain facts for whoever lists the caches.
        tap_paths: the modules that taps name; the same tap elsewhere in the net is another tensor.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        row_bytes: Mapping[str, int],
        about: Mapping[str, Any],
        tap_paths: Mapping[str, str] | None = None,
    ) -> None:
        tables = {
            name: f"{name}@{(tap_paths or {}).get(name, '')}".rstrip("@") for name in row_bytes
        }
        self.folder, self.about = folder, about
        self.tables = {
            name: RowStore(folder / tables[name], f"{key} {tables[name]}", size)
            for name, size in row_bytes.items()
        }
        self._rows_a_file = max(min(_FILE_ROWS, _FILE_BYTES // sum(row_bytes.values())), 1)

    def missing(self, ids: Tensor) -> Tensor:
        """Which of the ids [M] lack any of the tensors -> bool [M]."""
        lacking = torch.zeros(len(ids), dtype=torch.bool)
        for table in self.tables.values():
            table.refresh()
            lacking |= table.missing(ids)
        return lacking

    def complete(self, ids: Tensor, compute: Compute) -> int:
        """Have `compute(ids [m])` answer what is missing of ids [M]; return how many were.

        Where several processes want the same, one computes and the others wait.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        if not self.missing(ids).any():
            return 0
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.parent / f".{self.folder.name}.lock"
        with locked(lock, f"waiting for the process that is filling {self.folder}"):
            rest = ids[self.missing(ids)].unique()
            if not len(rest):  # another process was faster
                return 0
            self._describe()
            for part in rest.split(self._rows_a_file):
                self._keep(part, compute(part))
        return len(rest)

    def _keep(self, ids: Tensor, answers: Mapping[str, Tensor]) -> None:
        for name, table in self.tables.items():
            new = table.missing(ids)
            if new.any():
                table.append(ids[new], answers[name][new])

    def _describe(self) -> None:
        self.folder.mkdir(exist_ok=True)
        path, temporary = self.folder / ABOUT, self.folder / f".{ABOUT}.{os.getpid()}"
        temporary.write_text(json.dumps(dict(self.about), indent=2) + "\n")
        temporary.replace(path)


class Entry:
    """One cache below a root, as `kd.cache` lists it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def about(self) -> dict[str, Any]:
        """What the cache says of itself; nothing if it cannot be read."""
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
        """Delete it; runs that are reading it keep what they have open."""
        lock = self.folder.parent / f".{self.name}.lock"
        with locked(lock, f"waiting for the process that is filling {self.folder}"):
            shutil.rmtree(self.folder, ignore_errors=True)


def entries(root: Path) -> list[Entry]:
    """The caches below `root`, by name."""
    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [Entry(folder) for folder in sorted(folders)]
