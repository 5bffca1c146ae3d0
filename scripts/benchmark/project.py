"""Runs of this project for the benchmarks: as from the command line, within the process."""

import contextlib
import io
import shutil
import time
from pathlib import Path
from typing import Any

import hydra
import torch
from loops import Images
from torch import nn

from kd.build.given import GivenParts
from kd.build.parts import build_net
from kd.config.compose import CONF_DIR, register_models
from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.training.run import run


class Synthetic(ImageDataModule):
    """Random images of a given shape and number; speed does not depend on the content."""

    def __init__(self, shape: tuple[int, int, int], images: int, **common: Any) -> None:
        super().__init__(name="synthetic", val_fraction=0.1, **common)
        self.shape, self.images = shape, images

    def load(self) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        counts = (self.images * 10 // 9, 1000)
        train, test = (
            torch.randint(0, 256, (n, *self.shape), dtype=torch.uint8, generator=generator)
            for n in counts
        )
        labels = [torch.arange(n) % 10 for n in counts]
        return Arrays(train, labels[0], test, labels[1], [str(k) for k in range(10)])


class Project:
    """Runs of one teacher and student on one data set.

    Args:
        teacher, student: names of models.
        shape: of an image, (C, S, S).
        images: number of training images.
        folder: receives runs, weights and caches.
        overrides: of all runs.
    """

    def __init__(
        self,
        teacher: str,
        student: str,
        shape: tuple[int, int, int],
        images: int,
        folder: Path,
        overrides: list[str],
    ) -> None:
        self.folder = folder
        self.nets = [f"teacher={teacher}", f"student={student}", *overrides]
        channels = shape[0]
        self.data = Synthetic(
            shape, images, batch_size=128, mean=[0.5] * channels, std=[0.25] * channels
        )
        self.data.prepare_data()
        self.data.setup()
        self.weights = folder / f"{teacher}.pt"
        torch.manual_seed(0)
        torch.save(self.net("teacher").state_dict(), self.weights)

    @property
    def images_an_epoch(self) -> int:
        """Images per epoch: those in complete batches of the training split."""
        return len(self.data.train_dataloader()) * self.data.batch_size

    def images(self) -> Images:
        """Return the same images for the hand-written loops."""
        arrays, split = self.data.arrays, self.data.split
        train, val = (
            (arrays.train_inputs[rows], arrays.train_targets[rows])
            for rows in (split.train, split.val)
        )
        mean, std = self.data.normalisation or ([], [])
        return Images(train, val, mean, std)

    def net(self, role: str) -> nn.Module:
        """Build the `student` or the `teacher`, with new weights."""
        return build_net(self.compose("ce"), role, self.data)

    def run(self, *overrides: str, method: str = "kd", epochs: int = 1) -> dict[str, Any]:
        """Train once; return the result, with the seconds of the whole run added as `seconds`."""
        cfg = self.compose(method, f"trainer.max_epochs={epochs}", *overrides)
        folder = Path(cfg.paths.run)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # keeps the run's own table out of the output
            result = run(cfg, folder, GivenParts(data=self.data.variant()))
        return result | {"seconds": time.perf_counter() - started}

    def compose(self, method: str, *overrides: str) -> Any:
        """Compose the config of a run."""
        register_models(CONF_DIR)
        knobs = ["method.temperature=2", "method.alpha=0.25"] if method == "kd" else []
        paths = [f"paths.output={self.folder}", f"paths.run={self.folder / 'run'}"]
        with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return hydra.compose(
                "train",
                overrides=[
                    *("data=cifar10", "data/view=none", "optimizer=adam", "scheduler=constant"),
                    *(f"method={method}", *knobs, *self.nets, *paths),
                    *([f"teacher.checkpoint={self.weights}"] if hasattr(self, "weights") else []),
                    *overrides,
                ],
            )
