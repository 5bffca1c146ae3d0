"""Rows of a teacher's outputs in memory, where its cache cannot be written."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kd.teachers.output_cache import Compute, OutputCache


class MemoryRows:
    """The rows of one epoch that a cache lacks; the others are read from the cache.

    They are computed in the same blocks and rounded in the same way as for the cache, so a run
    whose disk is full trains the same student as one whose disk is not. An epoch's rows take at
    most the `max_gb` that the whole cache may take.

    Args:
        cache: the cache, which may still be readable.
    """

    def __init__(self, cache: OutputCache) -> None:
        self.cache = cache
        self._ids = torch.empty(0, dtype=torch.int64)  # sorted
        self._rows: Mapping[str, Tensor] = {}

    def fill(self, ids: Tensor, compute: Compute) -> int:
        """Compute the rows of ids [M] that neither the cache nor this epoch's memory has.

        Returns:
            The number of ids that were computed.
        """
        wanted = ids[self.cache.missing(ids)].unique()
        new = wanted[~torch.isin(wanted, self._ids)]
        parts = [compute(part) for part in new.split(self.cache.rows_a_file)] if len(new) else []
        kept = torch.isin(self._ids, wanted)
        every, order = torch.cat([self._ids[kept], new]).sort()
        earlier = [{name: rows[kept] for name, rows in self._rows.items()}] if kept.any() else []
        self._rows = {
            name: torch.cat([part[name] for part in (*earlier, *parts)])[order]
            for name in (self.cache.stores if len(every) else ())
        }
        self._ids = every
        return len(new)

    def gather(self, name: str, ids: Tensor) -> Tensor:
        """Return the rows [M, …] of one tensor."""
        store = self.cache.stores[name]
        if not len(self._ids):
            return store.gather(ids)
        here = torch.isin(ids, self._ids)
        rows = self._rows[name]
        gathered = rows.new_empty(len(ids), *rows.shape[1:])
        gathered[here] = rows[torch.searchsorted(self._ids, ids[here])]
        if not here.all():
            gathered[~here] = store.gather(ids[~here])
        return gathered
