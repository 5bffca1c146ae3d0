"""Figures of a finished run, as files and in TensorBoard."""

from importlib.util import find_spec
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from kd.data.base import DataModule
from kd.data.datamodule import ImageDataModule
from kd.errors import UserError
from kd.metrics import confusion_matrix

_IMAGES = 6  # that are chosen where none are named


def check_drawing(figures: bool | list[int], data: DataModule) -> None:
    """Refuse, before the training, what could not be drawn after it.

    Args:
        figures: whether to draw, or the test images to show, by their numbers.
        data: in memory.
    """
    if figures is False:
        return
    if find_spec("matplotlib") is None:
        raise UserError("figures needs matplotlib: pip install -e '.[plots]'")
    if not isinstance(data, ImageDataModule):
        raise UserError(f"figures: {data.limits.images}")
    count = len(data.test_targets)
    if figures is not True and (beyond := [n for n in figures if not 0 <= n < count]):
        raise UserError(f"figures: no test image {beyond[0]}; they are 0 to {count - 1}")


def draw_figures(
    folder: Path,
    trainer: Trainer,
    data: DataModule,
    teacher: Tensor,
    student: Tensor,
    figures: bool | list[int],
) -> None:
    """Write `dark-knowledge` and `confusion` into `folder`, as PNG and SVG, and show them.

    Args:
        folder: where the files go.
        trainer: whose TensorBoard shows the figures under IMAGES.
        data: whose test set was answered.
        teacher: its logits [N, K] on the test set.
        student: its counts [K, K] by label and prediction there.
        figures: True, or the test images to show, by their numbers.
    """
    from kd.plots.confusion import confusion_difference
    from kd.plots.dark_knowledge import dark_knowledge
    from kd.plots.figure import render, save

    assert isinstance(data, ImageDataModule)  # see check_drawing
    images, targets = data.arrays.test_images.cpu(), data.test_targets
    logits = teacher.double()
    chosen = _doubtful(logits, targets) if figures is True else torch.tensor(figures)
    answers = (images[chosen].numpy(), targets[chosen].tolist(), logits[chosen].numpy())
    theirs, ours = confusion_matrix(teacher, targets).double(), student.cpu().double()
    plans = [
        dark_knowledge(*answers, data.class_names),
        confusion_difference(theirs.numpy(), ours.numpy(), data.class_names),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for plan in plans:
        save(plan.draw, folder, plan.name)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                tag, pixels = f"figures/{plan.name}", render(plan.draw)
                logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def _doubtful(logits: Tensor, targets: Tensor) -> Tensor:
    """Images [n] of different classes that the teacher gets right with the greatest doubt."""
    logs = logits.log_softmax(1)
    doubt = -(logs.exp() * logs).sum(1)
    doubt[logits.argmax(1) != targets] -= 1e3  # after all that it gets right
    first: dict[int, int] = {}  # image by class
    for image in doubt.argsort(descending=True, stable=True).tolist():
        first.setdefault(int(targets[image]), image)
    return torch.tensor(list(first.values())[:_IMAGES])
