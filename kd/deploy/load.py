"""Loading of a trained student as a module."""

from pathlib import Path

import torch
from torch import nn

from kd.deploy.box_student import BoxStudent
from kd.deploy.rebuild import rebuild
from kd.deploy.student import Student
from kd.deploy.text_student import TextStudent
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.student_metadata import StudentMetadata, read_student_metadata
from kd.io.weights import load_weights


def load(path: str | Path, net: nn.Module | None = None) -> Student:
    """Load the student of a run as a module in eval mode, on the CPU.

    A file from a stranger is safe to load: nothing but a model constructor of `kd.models` is
    called, and neither Hydra nor Lightning is imported.

    Args:
        path: a run's folder, or a file `student.safetensors`.
        net: a net with the file's weights by name, changed in place; needed where no constructor of
            `kd` builds the student: a module of the caller's own, or a student that its method
            changes (SimKD).

    Returns:
        The student, which takes uint8 images or normalised floating point images [B, C, H, W]; one
        of texts takes texts or token ids [B, L]. One that finds boxes has `detections(images)`.

    Raises:
        UserError: there is no such file, it is damaged, it does not name the net's constructor and
            `net` is not given, or the weights do not fit.

    Example:
        >>> import kd
        >>> student = kd.load("outputs/runs/mine")  # doctest: +SKIP
        >>> student(images_uint8).argmax(1)  # doctest: +SKIP
        tensor([3, 8])
        >>> kd.load("missing")
        Traceback (most recent call last):
        kd.errors.UserError: there is neither a run's folder nor a weights file at missing
    """
    path = Path(path)
    file = RunFolder(path).weights if path.is_dir() else path
    if not file.is_file():
        what = f"no {file.name} in the folder" if path.is_dir() else _NOTHING
        raise UserError(f"there is {what} {path}")
    metadata = read_student_metadata(file)
    if net is None:
        net = _rebuilt(file, metadata)
    load_weights(net, file)
    if metadata is not None and metadata["channels_last"]:
        net.to(memory_format=torch.channels_last)
    return student_class(metadata)(net, metadata)


def student_class(metadata: StudentMetadata | None) -> type[Student]:
    """Return the class of students of a task; that of images if nothing is known."""
    return _CLASSES.get(metadata["task"] if metadata else "", Student)


_CLASSES: dict[str, type[Student]] = {
    TextStudent.task_name: TextStudent,
    BoxStudent.task_name: BoxStudent,
}


_NOTHING = "neither a run's folder nor a weights file at"


def _rebuilt(file: Path, metadata: StudentMetadata | None) -> nn.Module:
    remedy = f"build the net yourself: kd.load({str(file)!r}, net=MyNet())"
    if metadata is None:
        raise UserError(f"{file} holds weights and does not say of which net; {remedy}")
    if metadata["architecture"] is None:
        raise UserError(f"no constructor builds this net: {metadata['no_architecture']}; {remedy}")
    removed = bool(metadata.get("channels_removed"))
    return rebuild(metadata["architecture"], file, removed)
