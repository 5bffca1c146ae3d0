"""A teacher whose outputs are cached on disk by image and view."""

import logging
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kd.data.loader import TensorLoader
from kd.errors import UserError
from kd.teachers.base import Report
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.memory_rows import MemoryRows
from kd.teachers.output_cache import OutputCache
from kd.teachers.wrapped import WrappedTeacher
from kd.types import Batch, Outputs

log = logging.getLogger(__name__)
DTYPES = {"float16": torch.float16, "float32": torch.float32}
# An epoch's tensors up to 256 MiB stay on the device: the logits of 50 000 images and 1000 classes
# in float16 are 100 MB. Larger ones are gathered from the memory-mapped files, batch by batch.
_RESIDENT_BYTES = 1 << 28


class CachedTeacher(WrappedTeacher):
    """Reads its outputs from a cache by (image, view).

    They equal the live teacher's up to the rounding of `dtype`. Before each epoch, `prepare`
    computes the missing ones in large batches. If the cache cannot be written, they are kept in
    memory for that epoch: live outputs, which are not rounded, would train another student.

    Args:
        teacher: the live teacher.
        cache: storage of its outputs.
        dtype: of the stored tensors; they are returned as float32.
        batch_size: images in an inference batch.

    Attributes:
        rounding: relative error of `dtype` by tensor, the root mean square of the rounding error
            over that of the values, measured on the first inference batch.
    """

    teacher: FrozenTeacher

    def __init__(
        self, teacher: FrozenTeacher, cache: OutputCache, dtype: torch.dtype, batch_size: int
    ) -> None:
        super().__init__(teacher)
        self.cache, self.dtype, self.batch_size = cache, dtype, batch_size
        self.rounding: dict[str, float] = {}
        self._seconds = 0.0
        self._memory: MemoryRows | None = None
        self._ids = torch.empty(0, dtype=torch.int64)  # of the epoch's samples and views [M]
        self._position = torch.empty(0, dtype=torch.int64)  # of each sample in _ids [N], or -1
        self._resident: dict[str, Tensor] = {}

    @property
    def output_source(self) -> Literal["cached"]:
        return "cached"

    @property
    def needs_preparation(self) -> bool:
        return True

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def run(self) -> Callable[[Tensor], Outputs]:
        return self.teacher.run

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        # The id of a sample in a view does not depend on the epoch, so a view that recurs is found.
        views = loader.views(index, loader.sampler.epoch)
        self._ids = (index * loader.view_space.size + views).cpu()
        try:
            self._fill(loader, report)
        except OSError as error:
            if self._memory is not None:
                raise
            self.keep_in_memory(f"is not writable ({error})")
            self._fill(loader, report)
        device = self.teacher.device
        self._position = torch.full((len(loader.inputs),), -1, device=device)
        self._position[index.to(device)] = torch.arange(len(index), device=device)
        self._resident = {
            name: self._stored(name, self._ids).to(device)
            for name, store in self.cache.stores.items()
            if store.row_bytes * len(index) <= _RESIDENT_BYTES
        }

    def keep_in_memory(self, reason: str) -> None:
        """Keep each epoch's outputs in memory from now on, and log why."""
        log.warning(
            "teacher cache %s %s: keeping the outputs of one epoch in memory",
            self.cache.folder,
            reason,
        )
        self._memory = MemoryRows(self.cache)

    def matches(self, batch: Batch, loader: TensorLoader) -> bool:
        """Compare the batch with the image and view that its cached outputs were computed on."""
        position = self._position.index_select(0, batch.index).cpu()
        ids = batch.index * loader.view_space.size + batch.view
        if not ((position >= 0).all() and self._ids[position].equal(ids.cpu())):
            return False
        shown = loader.show(*(x.to(loader.inputs.device) for x in (batch.index, batch.view)))
        images = loader.normalise(shown.input).to(batch.input)
        if loader.pad_index is not None:  # texts are trimmed to the longest of a batch
            images = images[:, : batch.input.shape[1]]
        return images.equal(batch.input)

    def outputs(self, batch: Batch) -> Outputs:
        # [B]; −1 for a sample that was not prepared, which `matches` finds.
        position = self._position.index_select(0, batch.index)
        tensors = {name: self._gather(name, position) for name in self.cache.stores}
        return Outputs(tensors.pop("logits"), tensors)

    def _gather(self, name: str, position: Tensor) -> Tensor:
        """Return the rows [B, …] of one tensor at positions [B] of the epoch, as float32."""
        if name in self._resident:
            return self._resident[name].index_select(0, position).float()
        rows = self._stored(name, self._ids[position.cpu()])
        return rows.to(position.device, non_blocking=True).float()

    def _stored(self, name: str, ids: Tensor) -> Tensor:
        if self._memory is not None:
            return self._memory.gather(name, ids)
        return self.cache.stores[name].gather(ids)

    def _fill(self, loader: TensorLoader, report: Report) -> None:
        """Compute the missing outputs of the epoch; log the rounding error the first time."""
        total = int(self.cache.missing(self._ids).sum())
        before = self.teacher.forwards

        def compute(ids: Tensor) -> dict[str, Tensor]:
            return self._compute(loader, ids, lambda: report(self.forwards - before, total))

        started = time.perf_counter()
        computed = (self._memory or self.cache).fill(self._ids, compute)
        if not computed:
            return
        if not self._seconds and any(self.rounding.values()):
            dtype = str(self.dtype).removeprefix("torch.")
            errors = ", ".join(f"{name} {error:.1e}" for name, error in self.rounding.items())
            log.info("teacher outputs cached as %s (relative error: %s)", dtype, errors)
        self._seconds += time.perf_counter() - started

    def _compute(
        self, loader: TensorLoader, ids: Tensor, report: Callable[[], None]
    ) -> dict[str, Tensor]:
        """Run the teacher on ids [m]; return its outputs as `dtype` on the CPU."""
        views, done = loader.view_space.size, 0
        computed: dict[str, Tensor] = {}
        for block in ids.to(loader.inputs.device).split(self.batch_size):
            shown = loader.show(block // views, block % views)
            images = loader.normalise(shown.input).to(self.teacher.device)
            outputs = self.teacher.outputs(shown._replace(input=images))
            for name, rows in self._rounded({"logits": outputs.logits, **outputs.taps}).items():
                if done == 0:  # shapes are known from the first block on
                    computed[name] = torch.empty(len(ids), *rows.shape[1:], dtype=self.dtype)
                computed[name][done : done + len(block)] = rows
            done += len(block)
            report()
        return computed

    def _rounded(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert to `dtype` and measure the error; UserError for a value that is not finite."""
        rounded = {name: outputs[name].to(self.dtype) for name in self.cache.stores}
        for name, low in rounded.items():
            full = outputs[name]
            if not full.isfinite().all():
                raise UserError(
                    f"the teacher's {name} are not finite: its weights are damaged, or it needs "
                    "trainer.precision=32-true"
                )
            if not low.isfinite().all():
                raise UserError(
                    f"the teacher's {name} reach {full.abs().max():.3g}, more than {self.dtype} "
                    "holds: use teacher.cache.dtype=float32 or teacher.cache=off"
                )
            if name not in self.rounding:
                error = (low.float() - full.float()).norm() / full.float().norm()
                self.rounding[name] = float(error.nan_to_num())  # 0/0: a tensor of zeros
        return rounded
