"""Control arms that change a trained teacher, or the labels; see `kd.training.controls`."""

import logging
from dataclasses import replace

import torch
from omegaconf import DictConfig

from kd.build.method import Method
from kd.data.base import DataModule
from kd.errors import UserError
from kd.objectives.ce import CrossEntropy
from kd.tasks import task_named
from kd.teachers.base import Teacher
from kd.teachers.shuffled import ShuffledTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.controls import control_of

log = logging.getLogger(__name__)


def use_control(
    cfg: DictConfig,
    data: DataModule,
    method: Method,
    acquired: AcquiredTeacher | None,
    device: torch.device,
) -> AcquiredTeacher | None:
    """Return the teacher that a control arm's student has, and smooth its labels.

    Args:
        cfg: the run's config; without `control`, the teacher is returned as it is.
        data: the run's data, in memory.
        method: its labels' term is changed in place by `control=smoothing`.
        acquired: the teacher; None: no objective reads one.
        device: on which the teacher runs.

    Raises:
        UserError: the control needs what the data or the method do not have.
    """
    control = control_of(cfg)
    if acquired is None or control not in ("smoothing", "shuffled", "shuffled_class"):
        return acquired
    if not task_named(data.task).classifies:
        raise UserError(f"control={control} is for classifiers; data={data.name} has another task")
    if control == "smoothing" and acquired.test_logits is None:
        raise UserError(
            f"control=smoothing needs the teacher's confidence in the classes of data={data.name}, "
            "and it has others; set teacher.classes"
        )
    if control == "smoothing":
        _smooth(method, mean_confidence(acquired.teacher, data, device), data.num_classes)
        return acquired
    if reason := data.limits.index or data.limits.cache:
        raise UserError(f"control={control} needs other training images by their index: {reason}")
    targets = data.train_targets if control == "shuffled_class" else None
    return replace(acquired, teacher=ShuffledTeacher(acquired.teacher, data.seed, targets))


def _smooth(method: Method, confidence: float, classes: int) -> None:
    """Smooth the labels so that the label's share is the given confidence."""
    # The label's share is 1 − ε + ε/K.
    epsilon = min((1 - confidence) * classes / (classes - 1), 1 - 1e-6)
    for term in method.objectives.values():
        if isinstance(term, CrossEntropy):
            term.label_smoothing = epsilon
    log.info("labels smoothed by %.4f: the teacher's mean confidence is %.4f", epsilon, confidence)


@torch.no_grad()
def mean_confidence(teacher: Teacher, data: DataModule, device: torch.device) -> float:
    """Return the mean of the teacher's largest probability on the validation set.

    Not on the training set, on which a teacher is surer than of any other image; and not on the
    test set, which nothing is chosen on.
    """
    teacher.to(device)
    found = []
    for batch in data.val_dataloader():
        outputs = teacher.example_outputs(batch.input.to(device))
        found += [each.logits.float().softmax(1).amax(1).cpu() for each in outputs.values()]
    teacher.cpu()  # as `acquire_teacher` leaves it
    return torch.cat(found).mean().item()
