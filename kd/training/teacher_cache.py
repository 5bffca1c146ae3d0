"""Whether a run keeps its teacher's answers, and where."""

import logging
import shutil
from pathlib import Path

import torch
from omegaconf import DictConfig

from kd.config.compose import plain
from kd.config.identity import content_hash
from kd.data.arrays import digest
from kd.data.base import DataModule
from kd.data.views import Identity
from kd.errors import UserError
from kd.teachers.base import Teacher
from kd.teachers.cached import DTYPES, CachedTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.output_cache import Entry, OutputCache

log = logging.getLogger(__name__)

GB = 10**9


class Caching:
    """Decides for one teacher in one run, as `cfg.teacher.cache` says.

    Args:
        cfg: the run's config.
        data: the run's data.
        teacher: the live teacher with its weights.
    """

    def __init__(self, cfg: DictConfig, data: DataModule, teacher: FrozenTeacher) -> None:
        self.cfg, self.data, self.teacher = cfg, data, teacher
        self.settings = cfg.teacher.cache
        self.space = data.view_space
        self.epochs: int = cfg.trainer.max_epochs

    def of_test(self) -> Teacher:
        """The teacher for the test set: its logits in full precision, whatever the run's."""
        if self.settings.mode == "off" or self.data.limits.images:
            return self.teacher
        return self._cached("test", {"logits": self.data.num_classes}, torch.float32, "32-true")

    def of_training(self) -> Teacher:
        """The teacher for training; a line says what was decided and what it saves.

        Raises:
            UserError: the cache is insisted on and cannot be.
        """
        mode, dtype = self.settings.mode, DTYPES[self.settings.dtype]
        sizes = self._sizes()
        obstacle = self._obstacle(sum(sizes.values()) * dtype.itemsize)
        if obstacle and mode in ("on", "refresh"):
            raise UserError(f"teacher.cache={mode}: {obstacle}")
        if obstacle or mode == "off":
            log.info("the teacher looks at every batch: %s", obstacle or "teacher.cache=off")
            return self.teacher
        cached = self._cached("train", sizes, dtype, str(self.cfg.trainer.precision))
        log.info(
            "the teacher's answers are kept in %s: %.4g passes over the images instead of %d",
            cached.cache.folder,
            self.space.seen(self.epochs),
            self.epochs,
        )
        return cached

    def _sizes(self) -> dict[str, int]:
        """Numbers in one image's answer, by tensor."""
        images = torch.zeros(1, *self.data.input_shape)
        outputs = self.teacher.taps.probe(images.to(self.teacher.device))
        return {k: v.numel() for k, v in {"logits": outputs.logits, **outputs.taps}.items()}

    def _obstacle(self, row_bytes: int) -> str | None:
        """Why the answers cannot be kept, and what would help; None: they can."""
        if self.data.limits.cache:
            return self.data.limits.cache
        a_view = row_bytes * self.data.num_samples["train"]
        need = a_view * self.space.seen(self.epochs)
        free = shutil.disk_usage(_existing(self._root)).free
        limit = min(self.settings.max_gb * GB, 0.9 * free)
        if need <= limit:
            return None
        what = f"its answers to {self.space.seen(self.epochs):.4g} views of each image"
        full = limit < self.settings.max_gb * GB
        limit_is = "the disk has room for" if full else "teacher.cache.max_gb is"
        fits = int(limit // a_view)
        advice = f"; data.views={fits} would fit" if 0 < fits < self.space.size else ""
        return f"{what} take {need / GB:.3g} GB, {limit_is} {limit / GB:.3g}{advice}"

    def _cached(
        self, split: str, sizes: dict[str, int], dtype: torch.dtype, precision: str
    ) -> CachedTeacher:
        taps = self.teacher.taps
        content = {
            "net": plain(self.cfg.teacher.net),
            "weights": digest(x for item in taps.net.state_dict().items() for x in item),
            "images": self.data.images_fingerprint(split),
            "view": repr(self.data.view if split == "train" else Identity()),
            "precision": precision,
            "dtype": str(dtype),
        }
        about = {
            "teacher": self.cfg.teacher.name,
            "data": f"{self.data.name}, {split}",
            "view": content["view"],
            "tensors": {name: f"{size} {dtype}" for name, size in sizes.items()},
            "precision": precision,
            "probe": self._probe(),
        }
        key = content_hash(content)
        folder = self._root / f"{self.cfg.teacher.name}-{self.data.name}-{split}-{key}"
        if self.settings.mode == "refresh" or self._answers_otherwise(folder):
            Entry(folder).clear()
        row_bytes = {name: size * dtype.itemsize for name, size in sizes.items()}
        # Not in the key: methods that read other taps share the logits.
        tap_paths = {tap: taps.tap_paths[tap] for tap in taps.wanted if tap in sizes}
        cache = OutputCache(folder, key, row_bytes, about, tap_paths)
        return CachedTeacher(self.teacher, cache, dtype, self.data.eval_batch_size)

    def _probe(self) -> list[list[float]]:
        """The teacher's logits on two images of noise: its code is not in the key, this is."""
        shape = (2, *self.data.input_shape)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return self.teacher.taps.probe(noise.to(self.teacher.device)).logits.tolist()

    def _answers_otherwise(self, folder: Path) -> bool:
        """Whether the teacher answers otherwise than when the cache was made."""
        then, now = Entry(folder).about.get("probe"), torch.tensor(self._probe())
        if then is None or torch.allclose(
            torch.tensor(then), now, atol=1e-2 * float(now.abs().max())
        ):
            return False
        log.warning("the teacher answers otherwise than when %s was filled: made anew", folder)
        return True

    @property
    def _root(self) -> Path:
        return Path(self.cfg.paths.cache)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
