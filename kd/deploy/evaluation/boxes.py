"""Mean average precision of detectors on the test set."""

from typing import Any, cast

import torch

from kd.data.base import DataModule
from kd.deploy.box_student import BoxStudent
from kd.deploy.evaluation.predictions import Net, samples
from kd.deploy.live_teacher import LiveTeacher
from kd.errors import UserError
from kd.models.detector import Detector
from kd.tasks.detection import DetectionFigures

LEFT_OUT = (
    "Fidelity, calibration and robustness are left out: they are of classifiers, which give an "
    "image one class."
)


@torch.no_grad()
def box_figures(net: Net, data: DataModule) -> dict[str, Any]:
    """Return the figures of a detector under the keys of `kd.deploy.evaluation.keys`.

    Args:
        net: in eval mode, a student or a live teacher.
        data: set up, with boxes as targets.

    Raises:
        UserError: its predictions are not finite.
    """
    detector, figures, count = _detector(net), DetectionFigures(), 0
    for images, targets in samples(net, data, "test"):
        predictions = net(images)
        if not predictions.isfinite().all():
            raise UserError("a net's predictions are not finite: it has diverged")
        figures.update(detector.detections(predictions), targets)
        count += len(images)
    found = {name: float(value) for name, value in figures.compute().items()}
    return {"images": count, **found}


def _detector(net: Net) -> Detector:
    if isinstance(net, LiveTeacher):
        return cast(Detector, net.teacher.nets[0])
    assert isinstance(net, BoxStudent)
    return net.detector
