"""Description of an exported model, which lies in the file beside the graph."""

import json
from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict, cast

from kd.errors import UserError
from kd.io.documents import parse_json
from kd.io.student_metadata import MAX_CHANNELS, MAX_CLASSES, MAX_LENGTH, MAX_SIZE, MAX_TOKENS

KEY = "kd"  # name of the entry in a file's metadata
FORMAT = 1

Precision = Literal["fp32", "fp16", "int8"]


class Description(TypedDict):
    """What an exported model is, and which samples it takes.

    `class_names` are in the order of the logits; `input_size` is [H, W] of uint8 images with
    `channels` channels; `mean` and `std`, per channel on the 0..1 scale, are applied inside the
    graph. `accuracy` is the student's test accuracy in its run, a fraction; None: not tested.

    Of texts `input_size` is [L], the tokens after which a text is cut; `channels` is None, `mean`
    and `std` are empty. `tokenizer`, as JSON text, and `pad_index`, the token that fills short
    texts, are what turns texts into the graph's input.

    Of detectors `accuracy` is the mAP; `score_threshold`, `nms_iou` and `max_detections` choose
    among the boxes that the graph returns, as in `kd.models.detector.Detector`.
    """

    format: int
    student: str
    method: str
    task: str
    class_names: list[str]
    input_size: list[int]
    channels: int | None
    mean: list[float]
    std: list[float]
    precision: Precision
    accuracy: float | None
    kd_version: str
    git_commit: str | None
    tokenizer: NotRequired[str]
    pad_index: NotRequired[int]
    score_threshold: NotRequired[float]
    nms_iou: NotRequired[float]
    max_detections: NotRequired[int]


def encode(description: Description) -> str:
    """Return the description as JSON."""
    return json.dumps(description, ensure_ascii=False)


def decode(text: str, file: object) -> Description:
    """Read a description, whose every value is checked: the file may come from a stranger.

    Args:
        text: JSON.
        file: its file, for messages.

    Raises:
        UserError: it is damaged, or of a newer format.
    """
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError(f"it exceeds {MAX_LENGTH} characters")
        found = parse_json(text)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise ValueError("it has no format number")
        if found["format"] > FORMAT:
            raise ValueError(f"it has format {found['format']}; update kd, which reads {FORMAT}")
        fields = _FIELDS | _BY_TASK.get(str(found.get("task")), _IMAGES)
        for name, (valid, expected) in fields.items():
            if not valid(found.get(name)):
                raise ValueError(f"{name} is not {expected}")
        if any(len(found[name]) != (found["channels"] or 0) for name in ("mean", "std")):
            raise ValueError(f"mean and std are not of {found['channels']} channels")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: the description of the model is damaged: {error}") from None
    return cast(Description, {name: found.get(name) for name in ("format", *fields)})


def _is_whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) in (int, float) for each in value)


def _is_size(value: Any) -> bool:
    sizes = value if isinstance(value, list) else []
    return len(sizes) == 2 and all(_is_whole(size, MAX_SIZE) for size in sizes)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_CLASSES and all(map(_is_text, value))


Fields = dict[str, tuple[Callable[[Any], bool], str]]
_IMAGES: Fields = {
    "input_size": (_is_size, f"two whole numbers from 1 to {MAX_SIZE}"),
    "channels": (lambda v: _is_whole(v, MAX_CHANNELS), f"a whole number from 1 to {MAX_CHANNELS}"),
}
_TEXTS: Fields = {
    "input_size": (
        lambda v: isinstance(v, list) and len(v) == 1 and _is_whole(v[0], MAX_TOKENS),
        f"one whole number from 1 to {MAX_TOKENS}",
    ),
    "channels": (lambda v: v is None, "null"),
    "tokenizer": (_is_text, "a text"),
    "pad_index": (lambda v: type(v) is int and 0 <= v < 2**31, "a whole number ≥ 0"),
}
_DETECTORS: Fields = {
    **_IMAGES,
    "score_threshold": (_is_fraction, "a fraction"),
    "nms_iou": (_is_fraction, "a fraction"),
    "max_detections": (lambda v: _is_whole(v, 100_000), "a whole number from 1 to 100000"),
}
_BY_TASK = {"text_classification": _TEXTS, "detection": _DETECTORS}
_FIELDS: Fields = {
    "student": (_is_text, "a text"),
    "method": (_is_text, "a text"),
    "task": (_is_text, "a text"),
    "class_names": (_is_names, "a list of texts"),
    "mean": (_is_numbers, "a list of numbers"),
    "std": (_is_numbers, "a list of numbers"),
    "precision": (lambda v: v in ("fp32", "fp16", "int8"), "fp32, fp16 or int8"),
    "accuracy": (lambda v: v is None or (type(v) is float and 0 <= v <= 1), "a fraction or null"),
    "kd_version": (_is_text, "a text"),
    "git_commit": (lambda v: v is None or _is_text(v), "a text or null"),
}
