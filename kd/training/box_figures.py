"""Figure of test images with labelled boxes and those that student and teacher find."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from torch import Tensor

from kd.data.base import DataModule
from kd.data.datamodule import ImageDataModule
from kd.distillers.base import Distiller
from kd.models.boxes import Detections, labelled
from kd.teachers.base import Teacher
from kd.training.figures import write_figures

if TYPE_CHECKING:
    from kd.plots.boxes import Boxes

_IMAGES = 4  # with `figures=true`
_SURE = 0.3  # smallest score of a box that is shown
Finder = Callable[[Tensor], list[Detections]]


def draw_boxes(
    folder: Path,
    trainer: Trainer,
    data: DataModule,
    finders: Mapping[str, Finder],
    figures: bool | list[int],
) -> None:
    """Write `boxes` as PNG and SVG, and log it to TensorBoard.

    Args:
        folder: the folder of the files, which is created.
        trainer: its TensorBoard logger shows the figure in the IMAGES tab.
        data: the run's data, whose task is detection.
        finders: by `teacher` and `student`, what finds boxes in normalised images [n, C, S, S].
        figures: True, or the indices of the test images to show.

    Raises:
        OSError: the files cannot be written.
    """
    from kd.plots.boxes import Boxes, boxes_figure

    assert isinstance(data, ImageDataModule)  # see check_drawing
    loader, count = data.test_dataloader(), min(_IMAGES, len(data.test_targets))
    chosen = torch.arange(count) if figures is True else torch.tensor(figures)
    chosen = chosen.to(loader.inputs.device)
    batch = loader.show(chosen, torch.zeros_like(chosen))
    truth = labelled(batch.target.cpu())
    columns = {"labels": [Boxes(b["boxes"].numpy(), b["labels"].tolist()) for b in truth]}
    for name, find in finders.items():
        columns[name] = [_shown(found) for found in find(loader.normalise(batch.input))]
    plan = boxes_figure(batch.input.cpu().numpy(), columns, data.class_names)
    write_figures([plan], folder, trainer)


def box_finders(distiller: Distiller, teacher: Teacher | None) -> dict[str, Finder]:
    """Return what finds boxes in images, of the teacher if there is a single one, and the student.

    Args:
        distiller: with the weights of the selected epoch.
        teacher: live or cached.
    """
    task = distiller.task

    @torch.no_grad()
    def of_student(images: Tensor) -> list[Detections]:
        net = distiller.deployed().eval()
        found: list[Detections] = task.answers(net, net(images.to(distiller.device)))
        return found

    def of_teacher(images: Tensor) -> list[Detections]:
        assert teacher is not None
        outputs = teacher.example_outputs(images.to(teacher.device))[""].logits
        found: list[Detections] = task.answers(teacher.nets[0], outputs)
        return found

    single = teacher is not None and len(teacher.nets) == 1
    finders: dict[str, Finder] = {"teacher": of_teacher} if single else {}
    return finders | {"student": of_student}


def _shown(found: Detections) -> "Boxes":
    """The detections of one image that a user of the net would keep."""
    from kd.plots.boxes import Boxes

    tensors: Any = found
    sure = found["scores"] > _SURE
    kept = {name: tensors[name][sure].cpu() for name in ("boxes", "labels", "scores")}
    return Boxes(kept["boxes"].numpy(), kept["labels"].tolist(), kept["scores"].tolist())
