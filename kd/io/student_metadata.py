"""Description of a student in the metadata of its safetensors file.

The metadata of a safetensors file are strings by name. The description is JSON under one key,
beside the checksums of `kd.io.tensors`, so that other tools still read the file as plain weights.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from kd.errors import UserError
from kd.io.checkpoint.kinds import is_safetensors
from kd.io.documents import parse_json
from kd.io.tensor_bounds import check_safetensors

KEY = "kd"
FORMAT = 1
# 21 841 class names of ImageNet-21k take about 0.6 MB, a tokenizer of 250 000 tokens 17 MB.
MAX_LENGTH = 24_000_000
MAX_CLASSES = 1_000_000
MAX_CHANNELS = 1024
MAX_SIZE = 2048  # pixels; classifiers of torchvision and timm take up to 1024
MAX_TOKENS = 65_536  # of a text


class Architecture(TypedDict):
    """A model constructor and its arguments.

    `target` is a dotted path such as `kd.models.resnet_cifar.resnet_cifar`; `arguments` are plain
    values, in_channels, image_size and num_classes among them.
    """

    target: str
    arguments: dict[str, Any]


class StudentMetadata(TypedDict):
    """What a student is and which inputs it takes.

    `architecture` is None where no constructor builds the net; `no_architecture` is the reason.
    `taps` maps canonical names to module paths in the net. `input_size` is [H, W] of images, and
    [L] of texts, which have no channels. `mean` and `std` are per channel on the 0..1 scale, and
    None where the data set does not tell how its floating point images were made. `channels_last`
    is the memory layout that the net was trained in.
    `channels_removed`: layers have fewer channels than the architecture says, as the shapes of the
    tensors tell; the field is absent from files of other students.
    `tokenizer` is the tokenizer of a text student as JSON text, and `pad_index` the number of the
    token that fills its texts; None where the data were given without one.
    """

    format: int
    architecture: Architecture | None
    no_architecture: str | None
    taps: dict[str, str]
    class_names: list[str]
    input_size: list[int]
    channels: int | None
    mean: list[float] | None
    std: list[float] | None
    channels_last: bool
    task: str
    method: str
    kd_version: str
    git_commit: str | None
    channels_removed: NotRequired[bool | None]
    tokenizer: NotRequired[str | None]
    pad_index: NotRequired[int | None]


def encode(metadata: StudentMetadata) -> dict[str, str]:
    """Return the description as metadata of a safetensors file."""
    # Values that JSON does not know (paths, say) become texts: a run does not fail for them.
    return {KEY: json.dumps(metadata, ensure_ascii=False, default=str)}


def read_student_metadata(file: Path) -> StudentMetadata | None:
    """Read the description of a student; None if the file has none.

    The file may come from a stranger: every value is checked, and nothing is imported or executed.

    Args:
        file: the weights. Files of another kind than safetensors have no description; the kind is
            recognised by the first bytes, whatever the name.

    Raises:
        UserError: the file cannot be read, or its description is damaged or of a newer format.
    """
    from safetensors import safe_open

    if file.suffix != ".safetensors" and not is_safetensors(file):
        return None
    try:
        check_safetensors(file)
        with safe_open(file, "pt") as content:
            text = (content.metadata() or {}).get(KEY)
    except Exception as error:  # SafetensorError, OSError, and whatever damaged bytes lead to
        raise UserError(f"{file} is damaged or no safetensors file: {error}") from None
    if text is None:
        return None
    if len(text) > MAX_LENGTH:
        raise UserError(f"{file}: the description of the student exceeds {MAX_LENGTH} characters")
    try:
        return _checked(parse_json(text))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: the description of the student is damaged: {error}") from None


def _checked(found: Any) -> StudentMetadata:
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise ValueError("it has no format number")
    if found["format"] > FORMAT:
        raise ValueError(
            f"it has format {found['format']}, and this version of kd reads up to {FORMAT}; "
            "update kd"
        )
    for name, (valid, expected) in _FIELDS.items():
        if not valid(found.get(name)):
            raise ValueError(f"{name} is not {expected}")
    if any(len(found[name] or []) not in (0, found["channels"]) for name in ("mean", "std")):
        raise ValueError(f"mean and std are not of {found['channels']} channels")
    return cast(StudentMetadata, {name: found.get(name) for name in ("format", *_FIELDS)})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any, largest: int) -> bool:
    return type(value) is int and 1 <= value <= largest


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_CLASSES and all(map(_is_text, value))


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) in (int, float) for each in value)


def _is_size(value: Any) -> bool:
    sizes = value if isinstance(value, list) else []
    largest = MAX_TOKENS if len(sizes) == 1 else MAX_SIZE
    return len(sizes) in (1, 2) and all(_is_whole(size, largest) for size in sizes)


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_architecture(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("target"))
        and isinstance(value.get("arguments"), dict)
    )


def _optional(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or valid(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "architecture": (_optional(_is_architecture), "a target with arguments, or null"),
    "no_architecture": (_optional(_is_text), "a text or null"),
    "taps": (_is_text_by_name, "a map of texts"),
    "class_names": (_is_texts, "a list of texts"),
    "input_size": (
        _is_size,
        f"one or two whole numbers from 1 to {MAX_SIZE}, or to {MAX_TOKENS} for texts",
    ),
    "channels": (
        lambda v: v is None or _is_whole(v, MAX_CHANNELS),
        f"a whole number from 1 to {MAX_CHANNELS}, or null",
    ),
    "mean": (_optional(_is_numbers), "a list of numbers or null"),
    "std": (_optional(_is_numbers), "a list of numbers or null"),
    "channels_last": (lambda v: isinstance(v, bool), "true or false"),
    "task": (_is_text, "a text"),
    "method": (_is_text, "a text"),
    "kd_version": (_is_text, "a text"),
    "git_commit": (_optional(_is_text), "a text or null"),
    "channels_removed": (_optional(lambda v: isinstance(v, bool)), "true, false or null"),
    "tokenizer": (_optional(_is_text), "a text or null"),
    "pad_index": (_optional(_is_index), "a whole number ≥ 0, or null"),
}
