"""Check that data suit a student: the same task, inputs and classes."""

from kd.data.base import DataModule
from kd.data.text import Text
from kd.deploy.box_student import BoxStudent
from kd.deploy.student import Student
from kd.deploy.text_student import TextStudent
from kd.errors import UserError


def check_fits(student: Student, data: DataModule, start: str) -> None:
    """Refuse data of another task, other inputs or classes, or of the same in another order.

    Args:
        student: of a run.
        data: to evaluate on.
        start: of the message.

    Raises:
        UserError: names what differs.
    """
    if student.task not in (None, data.task):
        raise UserError(
            f"{start}: the task of its student is {student.task}, and that of data={data.name} "
            f"{data.task}; give data of its task"
        )
    if isinstance(student, TextStudent):
        _check_tokens(student, data, start)
    else:
        _check_channels(student, data, start)
    _check_classes(student, data, start)
    if (
        isinstance(student, BoxStudent)
        and list(data.input_shape[1:]) != [student.detector.image_size] * 2
    ):
        height, width = data.input_shape[1:]
        raise UserError(
            f"{start}: its student finds boxes in images of {student.detector.image_size} pixels a "
            f"side, and those of data={data.name} have {height} x {width}; give data of its size"
        )


def _check_tokens(student: TextStudent, data: DataModule, start: str) -> None:
    known = student.metadata and student.metadata.get("tokenizer")
    if known and isinstance(data, Text) and data.tokenizer.source != known:
        raise UserError(
            f"{start}: the tokens of its student have other numbers than those of data="
            f"{data.name}; give both one tokenizer (data.tokenizer=FILE), or classify the texts "
            "with kd.predict texts=FILE"
        )
    (length,) = data.input_shape
    if length > student.max_length:
        raise UserError(
            f"{start}: its student takes {student.max_length} tokens, and texts of data="
            f"{data.name} have up to {length}; give data.max_length={student.max_length}"
        )


def _check_channels(student: Student, data: DataModule, start: str) -> None:
    channels = None if student.metadata is None else student.metadata["channels"]
    if channels not in (None, data.input_shape[0]):
        raise UserError(
            f"{start}: its student takes images of {channels} channel{'s' * (channels != 1)}, and "
            f"those of data={data.name} have {data.input_shape[0]}"
        )


def _check_classes(student: Student, data: DataModule, start: str) -> None:
    own, theirs = student.class_names, list(data.class_names)
    if not own:
        return
    if len(own) != len(theirs):
        raise UserError(
            f"{start}: its student predicts {len(own)} classes, and data={data.name} has "
            f"{len(theirs)}; the classes must be the same"
        )
    for k, (mine, other) in enumerate(zip(own, theirs, strict=True)):
        if mine != other and (mine in theirs or other in own):
            raise UserError(
                f"{start}: label {k} is {mine!r} for its student and {other!r} in "
                f"data={data.name}; the classes must be the same, in the same order"
            )
