"""Figures of student and teacher on the test set, as files and in TensorBoard."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from kd.data.base import DataModule
from kd.data.datamodule import ImageDataModule
from kd.data.memory import MemoryDataModule
from kd.errors import UserError
from kd.metrics import confusion_matrix

if TYPE_CHECKING:
    from kd.plots.figure import FigureSpec

_IMAGES = 6  # images in a figure with `figures=true`: what fits one row at a readable size


def check_drawing(figures: bool | list[int], data: DataModule) -> None:
    """Refuse, before training, figures that could not be drawn after it.

    Args:
        figures: whether to draw, or the indices of the test images to show.
        data: the run's data, set up.

    Raises:
        UserError: matplotlib is not installed, or the data have no such image.
    """
    if figures is False:
        return
    if find_spec("matplotlib") is None:
        raise UserError("figures needs matplotlib: pip install -e '.[plots]'")
    if not isinstance(data, MemoryDataModule):
        raise UserError(f"figures: {data.limits.images}")
    if not isinstance(data, ImageDataModule) and figures is not True:
        raise UserError(
            f"figures={figures}: data={data.name} have no images to show; figures=true draws which "
            "classes are confused"
        )
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
    """Write `dark-knowledge` and `confusion` as PNG and SVG, and log them to TensorBoard.

    Of texts there is `confusion` alone.

    Args:
        folder: the folder of the files, which is created.
        trainer: its TensorBoard logger shows the figures in the IMAGES tab.
        data: the run's data.
        teacher: the teacher's logits on the test set [N, K].
        student: the student's test predictions, counted by label and prediction [K, K].
        figures: True, or the indices of the test images to show.

    Raises:
        OSError: the files cannot be written.
    """
    from kd.plots.confusion import confusion_difference
    from kd.plots.dark_knowledge import dark_knowledge

    assert isinstance(data, MemoryDataModule)  # see check_drawing
    images, targets = data.arrays.test_inputs.cpu(), data.test_targets
    theirs, ours = confusion_matrix(teacher, targets).double(), student.cpu().double()
    plans = [confusion_difference(theirs.numpy(), ours.numpy(), data.class_names)]
    if isinstance(data, ImageDataModule):
        logits = teacher.double()
        chosen = _most_uncertain(logits, targets) if figures is True else torch.tensor(figures)
        shown = (images[chosen].numpy(), targets[chosen].tolist(), logits[chosen].numpy())
        plans.insert(0, dark_knowledge(*shown, data.class_names))
    write_figures(plans, folder, trainer)


def write_figures(plans: list["FigureSpec"], folder: Path, trainer: Trainer) -> None:
    """Write figures as PNG and SVG into a folder, and log them to TensorBoard.

    Raises:
        OSError: the files cannot be written.
    """
    from kd.plots.figure import render, save

    folder.mkdir(parents=True, exist_ok=True)
    for plan in plans:
        save(plan.draw, folder, plan.name)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                tag, pixels = f"figures/{plan.name}", render(plan.draw)
                logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")
                # A thread writes them: the last one may be missing when the run has ended.
                logger.experiment.flush()


def _most_uncertain(logits: Tensor, targets: Tensor) -> Tensor:
    """Return indices [n ≤ 6] of images of different classes with the highest entropy.

    The teacher's prediction is correct for all of them, unless it is correct for none of a class.

    Args:
        logits: the teacher's on the test set [N, K].
        targets: labels [N].
    """
    log_p = logits.log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1)
    entropy[logits.argmax(1) != targets] -= 1e3  # behind all correct ones; an entropy is ≤ log K
    first: dict[int, int] = {}  # image by class
    for image in entropy.argsort(descending=True, stable=True).tolist():
        first.setdefault(int(targets[image]), image)
    return torch.tensor(list(first.values())[:_IMAGES])
