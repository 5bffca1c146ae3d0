"""The frozen teacher whose answers are kept, so that it looks at every view of an image once."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.errors import UserError
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.output_cache import OutputCache
from kd.types import Batch, Outputs

log = logging.getLogger(__name__)
DTYPES = {"float16": torch.float16, "float32": torch.float32}
_RESIDENT_BYTES = 1 << 28  # larger tensors of an epoch stay in the mapped files


class CachedTeacher(Teacher):
    """Answers from a cache by (image, view); equal to the live teacher up to the type kept.

    Before each epoch `prepare` has what is missing computed in large batches. Where the cache
    cannot be written, the teacher answers live from there on.

    Args:
        teacher: the live teacher.
        cache: where its answers are kept.
        dtype: the type they are kept in; they come out as float32.
        batch_size: images the teacher looks at together.

    Attributes:
        rounding: by tensor, the root mean square of what `dtype` cuts off over that of the values;
            measured on the first batch computed.
    """

    def __init__(
        self, teacher: FrozenTeacher, cache: OutputCache, dtype: torch.dtype, batch_size: int
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.cache, self.dtype, self.batch_size = cache, dtype, batch_size
        self._seconds = 0.0
        self.rounding: dict[str, float] = {}
        self._live = False
        self._ids = self._position = torch.empty(0, dtype=torch.int64)
        self._resident: dict[str, Tensor] = {}

    @property
    def output_source(self) -> Literal["live", "cached"]:
        return "live" if self._live else "cached"

    @property
    def forwards(self) -> int:
        return self.teacher.forwards

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def nets(self) -> Sequence[nn.Module]:
        return self.teacher.nets

    @property
    def head(self) -> nn.Module | None:
        return self.teacher.head

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        return self.teacher.example_outputs(images)

    def prepare(
        self, loader: TensorLoader, index: Tensor, report: Callable[[int, int], None]
    ) -> None:
        if self._live:
            return
        self._ids = (
            index * loader.view_space.size + loader.views(index, loader.sampler.epoch)
        ).cpu()
        try:
            self._fill(loader, report)
        except OSError as error:
            self._live = True
            log.warning(
                "the teacher's answers cannot be kept in %s (%s): it answers live from here on",
                self.cache.folder,
                error,
            )
            return
        device = self.teacher.device
        self._position = torch.full((len(loader.images),), -1, device=device)
        self._position[index.to(device)] = torch.arange(len(index), device=device)
        self._resident = {
            name: table.gather(self._ids).to(device)
            for name, table in self.cache.tables.items()
            if table.row_bytes * len(index) <= _RESIDENT_BYTES
        }

    def saw(self, batch: Batch, loader: TensorLoader) -> bool:
        if self._live:
            return True
        at = self._position.index_select(0, batch.index).cpu()
        ids = batch.index * loader.view_space.size + batch.view
        if not ((at >= 0).all() and self._ids[at].equal(ids.cpu())):
            return False
        shown = loader.show(*(x.to(loader.images.device) for x in (batch.index, batch.view)))
        return loader.normalise(shown.input).to(batch.input).equal(batch.input)

    def outputs(self, batch: Batch) -> Outputs:
        if self._live:
            return self.teacher.outputs(batch)
        at = self._position.index_select(0, batch.index)
        kept = {name: self._look_up(name, at) for name in self.cache.tables}
        return Outputs(kept.pop("logits"), kept)

    def _look_up(self, name: str, at: Tensor) -> Tensor:
        if name in self._resident:
            return self._resident[name].index_select(0, at).float()
        rows = self.cache.tables[name].gather(self._ids[at.cpu()])
        return rows.to(at.device, non_blocking=True).float()

    def _fill(self, loader: TensorLoader, report: Callable[[int, int], None]) -> None:
        wanted = int(self.cache.missing(self._ids).sum())
        done = self.teacher.forwards

        def compute(ids: Tensor) -> dict[str, Tensor]:
            return self._answer(loader, ids, lambda: report(self.forwards - done, wanted))

        started = time.perf_counter()
        computed = self.cache.complete(self._ids, compute)
        seconds = time.perf_counter() - started
        if computed and not self._seconds:
            errors = ", ".join(f"{name} {error:.1e}" for name, error in self.rounding.items())
            kind = str(self.dtype).removeprefix("torch.")
            log.info("%d answers kept as %s, relative rounding error: %s", computed, kind, errors)
        self._seconds += seconds if computed else 0.0

    def _answer(
        self, loader: TensorLoader, ids: Tensor, report: Callable[[], None]
    ) -> dict[str, Tensor]:
        """The teacher's answers to ids [m], in the type kept, on the CPU."""
        views, done = loader.view_space.size, 0
        answers: dict[str, Tensor] = {}
        for block in ids.to(loader.images.device).split(self.batch_size):
            shown = loader.show(block // views, block % views)
            images = loader.normalise(shown.input).to(self.teacher.device)
            outputs = self.teacher.outputs(shown._replace(input=images))
            for name, value in self._kept({"logits": outputs.logits, **outputs.taps}).items():
                if done == 0:
                    answers[name] = torch.empty(len(ids), *value.shape[1:], dtype=self.dtype)
                answers[name][done : done + len(block)] = value
            done += len(block)
            report()
        return answers

    def _kept(self, answers: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {name: answers[name].to(self.dtype) for name in self.cache.tables}
        for name in kept:
            value = answers[name]
            if not kept[name].isfinite().all() and value.isfinite().all():
                raise UserError(
                    f"the teacher's {name} reaches {value.abs().max():.3g}, more than {self.dtype} "
                    "holds: use teacher.cache.dtype=float32 or teacher.cache=off"
                )
            if name not in self.rounding:
                cut = (kept[name].float() - value.float()).norm() / value.float().norm()
                self.rounding[name] = float(cut.nan_to_num())
        return kept
