"""Predictors: a run, a weights file or an exported model, all with one interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.config.trust import NO_TRUST, Trust
from kd.data.decode import Target
from kd.deploy.box_student import BoxStudent
from kd.deploy.finished_run import FinishedRun
from kd.deploy.live_teacher import LiveTeacher
from kd.deploy.load import load
from kd.deploy.prediction import box_predictor, text_predictor
from kd.deploy.prediction.box_predictor import BoxPredictor
from kd.deploy.prediction.text_predictor import TextPredictor
from kd.deploy.runtimes.open import SUFFIXES, open_model_file
from kd.deploy.student import Student
from kd.deploy.text_student import TextStudent
from kd.errors import UserError, nearest

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
_WEIGHTS = ".safetensors"
P = TypeVar("P", "Predictor", BoxPredictor)


@dataclass(frozen=True)
class Predictor:
    """A classifier of raw images.

    Attributes:
        source: its run or file, for messages.
        class_names: names of the K classes in the order of the logits.
        channels: of its images.
        size: height and width of its images.
        logits: uint8 images [B, C, H, W] -> logits [B, K] of temperature 1.
        teacher: the same of the student's teacher; None: it is not asked for.
    """

    source: str
    class_names: Sequence[str]
    channels: int
    size: tuple[int, int]
    logits: Callable[[Images], Logits]
    teacher: Callable[[Images], Logits] | None = None

    def target(self, max_megapixels: float) -> Target:
        """Return the form of the images that it takes."""
        height, width = self.size
        return Target(height, self.channels == 1, max_megapixels, width)


AnyPredictor = Predictor | TextPredictor | BoxPredictor


def open_predictor(
    path: Path,
    with_teacher: bool = False,
    trust: Trust = NO_TRUST,
    teacher_checkpoint: str | None = None,
) -> AnyPredictor:
    """Open a run or a file, and try it on a black image or a short text.

    Args:
        path: the folder of a run or a chain, an exported model, or a student's weights.
        with_teacher: open the teacher of the run as well.
        trust: what the record of a run may name beside what `conf/` names.
        teacher_checkpoint: weights of the teacher in place of the run's own.

    Raises:
        UserError: there is no such run or file, it is no classifier whose classes and
            preprocessing are known, or it has no teacher.
    """
    if path.suffix.lower() in (*SUFFIXES, _WEIGHTS) and not path.is_dir():
        if with_teacher:
            raise UserError(f"teacher=true: {path} is one model; give run=FOLDER of its run")
        found = _of_file(path)
    elif path.is_file():
        kinds = nearest(path.suffix, (*SUFFIXES, _WEIGHTS))
        raise UserError(f"run={path}: neither a run's folder nor a model file; {kinds}")
    else:
        run = FinishedRun(path, "run", trust, teacher_checkpoint)
        found = _of_student(run.student, f"run={path}")
        if with_teacher:
            found = _with_teacher(found, run)
    if isinstance(found, BoxPredictor):
        return box_predictor.tried(found)
    return text_predictor.tried(found) if isinstance(found, TextPredictor) else _tried(found)


def _of_file(path: Path) -> AnyPredictor:
    if not path.is_file():
        raise UserError(f"run={path}: there is no such file")
    if path.suffix.lower() == _WEIGHTS:
        return _of_student(load(path), f"run={path}")
    model = open_model_file(path)
    about = model.description
    if about is None:
        raise UserError(
            f"run={path}: the file does not say which classes and images it is made for; "
            "python -m kd.export writes files that do"
        )
    if about["task"] == TextStudent.task_name:
        return text_predictor.of_text_file(model, f"run={path}")
    if about["task"] == BoxStudent.task_name:
        return _readable(box_predictor.of_box_file(model, f"run={path}"))
    height, width = about["input_size"]
    names, channels = about["class_names"], about["channels"]
    assert channels is not None  # images have some
    return _readable(Predictor(f"run={path}", names, channels, (height, width), model.logits))


def _of_student(student: Student, source: str) -> AnyPredictor:
    if isinstance(student, TextStudent):
        return text_predictor.of_text_student(student, source)
    about = student.metadata
    if about is None or student.normalisation is None:
        raise UserError(
            f"{source}: its data set does not say how images become the student's input (mean, "
            "std), so that image files cannot be converted; kd.load gives the student itself"
        )
    if isinstance(student, BoxStudent):
        return _readable(box_predictor.of_box_student(student, source))
    height, width = about["input_size"]
    channels = about["channels"]
    assert channels is not None  # images have some

    @torch.no_grad()
    def logits(images: Images) -> Logits:
        return _array(student(torch.from_numpy(images)))

    return _readable(Predictor(source, student.class_names, channels, (height, width), logits))


def _readable(predictor: P) -> P:
    if predictor.channels not in (1, 3):
        raise UserError(
            f"{predictor.source} takes images of {predictor.channels} channels, and image files "
            "give 1 (grey) or 3 (colour)"
        )
    return predictor


def _with_teacher(predictor: AnyPredictor, run: FinishedRun) -> AnyPredictor:
    if isinstance(predictor, BoxPredictor):
        raise UserError(
            "teacher=true: classes are set beside each other, and detectors give boxes; give "
            "run=FOLDER of the teacher's own run to see its boxes"
        )
    teacher, student = run.teacher, run.student
    if teacher is None:
        raise UserError(
            f"teacher=true: {predictor.source} has no pretrained teacher "
            f"(method={run.result.get('method')}, mode={run.result.get('mode')})"
        )

    if teacher.has_other_classes:
        raise UserError(
            f"teacher=true: the teacher of {predictor.source} has other classes than its student; "
            "give run=FOLDER of the teacher's own run to see them"
        )
    live = LiveTeacher(teacher.teacher, student.normalisation)
    if isinstance(predictor, TextPredictor):
        return text_predictor.with_teacher(predictor, live)

    def logits(images: Images) -> Logits:
        return _array(live(torch.from_numpy(images)))

    return replace(predictor, teacher=logits)


def _array(logits: Tensor) -> Logits:
    return cast(Logits, logits.float().cpu().numpy())


def _tried(predictor: Predictor) -> Predictor:
    """Refuse a model that does not take the images, or give the classes, that its file says."""
    shape = (1, predictor.channels, *predictor.size)
    said = " x ".join(map(str, shape[1:]))
    try:
        found = predictor.logits(np.zeros(shape, np.uint8)).shape
    except UserError:
        raise
    except Exception as error:  # of torch, onnxruntime or any other runtime
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{predictor.source}: it does not take images of {said}, as its file says: {reason}"
        ) from None
    if found != (1, len(predictor.class_names)):
        raise UserError(
            f"{predictor.source}: an image of {said} gives outputs of shape {list(found)}, and its "
            f"file names {len(predictor.class_names)} classes"
        )
    return predictor
