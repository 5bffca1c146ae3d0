"""Caches of a teacher's outputs: whether a run uses them, and under which key they are stored."""

import contextlib
import logging
import math
import shutil
from pathlib import Path

import torch
from omegaconf import DictConfig

from kd.build.parts import distiller_class
from kd.config.compose import plain
from kd.config.identity import content_hash
from kd.data.base import DataModule
from kd.data.views import Identity, Limited
from kd.errors import UserError
from kd.models.memory_format import is_channels_last
from kd.tasks import task_named
from kd.teachers.base import Teacher
from kd.teachers.cached import DTYPES, CachedTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.output_cache import Entry, OutputCache

log = logging.getLogger(__name__)

GB = 10**9
# Share of the free disk space that a cache may fill: checkpoints and logs need some as well.
_DISK_SHARE = 0.9
# Largest difference of two probes, relative to the largest logit: kernels on other hardware differ
# by about 1e-3 in half precision, another preprocessing or architecture by far more.
_PROBE_TOLERANCE = 1e-2


class TeacherCache:
    """Wraps one teacher in caches of its outputs, as `cfg.teacher.cache` configures.

    Test images have a cache of their own, which all students of the teacher share.

    Args:
        cfg: the run's config.
        data: the run's data, in memory.
        teacher: the live teacher with its weights.
        weights: their digest.
        second: whether the training images are in their second views.
    """

    def __init__(
        self,
        cfg: DictConfig,
        data: DataModule,
        teacher: FrozenTeacher,
        weights: str,
        second: bool = False,
    ) -> None:
        self.cfg, self.data, self.teacher = cfg, data, teacher
        self.weights = weights
        self.settings = cfg.teacher.cache
        self.space = data.second_space if second else data.view_space
        # A limited number of views have the ids of the whole space, so runs share their cache.
        self.view = self.space.space if isinstance(self.space, Limited) else self.space
        self.epochs: int = cfg.trainer.max_epochs

    def for_test(self) -> Teacher:
        """Return the teacher for the test set, with logits in float32 whatever the settings say.

        They are saved also for a teacher that is live in training: 10 000 images of 10 classes take
        0.4 MB, and every further run is spared a pass of the teacher over the test set.
        """
        if self.data.limits.images or not task_named(self.data.task).classifies:
            return self.teacher
        return self._cached("test", {"logits": (self.data.num_classes,)}, torch.float32, "32-true")

    def for_training(self) -> Teacher:
        """Return the teacher for training, and log whether its outputs are cached or live.

        Raises:
            UserError: `teacher.cache=on` or `refresh`, and the outputs cannot be cached.
        """
        mode, dtype = self.settings.mode, DTYPES[self.settings.dtype]
        shapes = self._shapes()
        row_bytes = sum(map(math.prod, shapes.values())) * dtype.itemsize
        obstacle, full = self._obstacle(row_bytes), self._full_disk(row_bytes)
        if (obstacle or full) and mode in ("on", "refresh"):
            raise UserError(f"teacher.cache={mode}: {obstacle or full}")
        if obstacle or mode == "off":
            reason = obstacle or "teacher.cache=off"
            log.info("teacher cache disabled (%s): running the teacher on every batch", reason)
            return self.teacher
        cached = self._cached("train", shapes, dtype, str(self.cfg.trainer.precision))
        if full:  # the outputs are rounded all the same: the student is that of an empty disk
            cached.keep_in_memory(f"does not fit: {full}")
            return cached
        passes, folder = self.space.seen(self.epochs), cached.cache.folder
        saving = f": {passes:.4g} passes over the images instead of {self.epochs}"
        log.info("teacher outputs cached in %s%s", folder, saving if passes < self.epochs else "")
        return cached

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output for one sample, by name."""
        images = self.data.random_input(1)
        outputs = self.teacher.example_outputs(images.to(self.teacher.device))[""]
        found = {"logits": outputs.logits, **outputs.taps}
        return {name: tuple(tensor.shape[1:]) for name, tensor in found.items()}

    def _obstacle(self, row_bytes: int) -> str | None:
        """Why the outputs cannot be cached, and a remedy; None if they can.

        Args:
            row_bytes: size of the outputs for one image.
        """
        if reason := distiller_class(self.cfg).runs_teacher or self.data.limits.cache:
            return reason
        limit = self.settings.max_gb * GB
        return self._excess(row_bytes, limit, f"teacher.cache.max_gb={self.settings.max_gb:g}")

    def _full_disk(self, row_bytes: int) -> str | None:
        """Why the disk has no room for the outputs, and a remedy; None if it has."""
        if self.data.limits.cache:
            return None
        room = _DISK_SHARE * shutil.disk_usage(_existing(self._root)).free
        return self._excess(row_bytes, room, f"{room / GB:.3g} GB that the disk has room for")

    def _excess(self, row_bytes: int, limit: float, bound: str) -> str | None:
        view_bytes = row_bytes * self.data.num_samples["train"]
        spaces = [self.data.view_space, *([self.data.second_space] if self.data.two_views else ())]
        views = sum(space.seen(self.epochs) for space in spaces)
        need = view_bytes * views
        if need <= limit:
            return None
        fits = int(limit // view_bytes) // len(spaces)
        hint = f"; data.views={fits} would fit" if 0 < fits < min(s.size for s in spaces) else ""
        return f"{need / GB:.3g} GB for {views:.4g} views of each image > {bound}{hint}"

    def _cached(
        self, split: str, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, precision: str
    ) -> CachedTeacher:
        """The teacher with the cache of one split: `train`, the whole training pool, or `test`."""
        taps = self.teacher.taps
        content = {
            "net": plain(self.cfg.teacher.net),
            "weights": self.weights,
            "channels_last": is_channels_last(taps.net),  # sums are rounded otherwise
            "images": self.data.inputs_fingerprint(split),
            "view": repr(self.view if split == "train" else Identity()),
            "precision": precision,  # of the forward pass: autocast changes the outputs
            "dtype": str(dtype),  # of the stored values
        }
        if self.teacher.renormalise is not None:
            content["normalisation"] = self.teacher.renormalise.wanted
        if self.teacher.classes is not None:
            content["classes"] = self.teacher.classes.classes.tolist()
        about = {
            "teacher": self.cfg.teacher.name,
            "data": f"{self.data.name}, {split}",
            "view": content["view"],
            "tensors": {k: f"{math.prod(shape)} {dtype}" for k, shape in shapes.items()},
            "precision": precision,
            "probe": self._probe(),
        }
        key = content_hash(content)
        folder = self._root / f"{self.cfg.teacher.name}-{self.data.name}-{split}-{key}"
        if self.settings.mode == "refresh" or self._is_stale(folder):
            Entry(folder).clear()
        # Taps are no part of the key: methods that read other taps share the logits.
        tap_paths = {tap: taps.tap_paths[tap] for tap in taps.wanted if tap in shapes}
        cache = OutputCache(folder, key, shapes, dtype, about, tap_paths)
        return CachedTeacher(self.teacher, cache, dtype, self.data.eval_batch_size)

    def _probe(self) -> list[list[float]]:
        """The teacher's logits [2, K] on noise: they change with its code, which the key omits."""
        noise = self.data.random_input(2)
        return self.teacher.taps.probe(noise.to(self.teacher.device)).logits.tolist()

    def _is_stale(self, folder: Path) -> bool:
        """Whether the teacher's outputs differ from those that the cache was filled with."""
        then, now = Entry(folder).about.get("probe"), torch.tensor(self._probe())
        tolerance = _PROBE_TOLERANCE * float(now.abs().max())
        if then is None:
            return False
        # Of another shape or no numbers: not written by this version, or not by kd
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            if torch.allclose(torch.tensor(then), now, atol=tolerance):
                return False
        log.warning("%s was filled with other outputs of the teacher: filling it again", folder)
        return True

    @property
    def _root(self) -> Path:
        return Path(self.cfg.paths.cache)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
