"""Test predictions of a run: labels, classes and logits of student and teacher, in one small file.

Two runs on the same test set can then be compared image by image without their nets. Reading needs
NumPy alone, so that a report starts without torch.
"""

import logging
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.io.documents import parse_json
from kd.io.tensor_bounds import check_safetensors

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# Bytes of one net's logits in float16: 10 000 images of 100 classes take 2 MB. Above, the most
# probable classes alone are kept: 50 000 images of 1000 classes would take 100 MB.
MAX_LOGITS = 4_000_000
TOP = 5
_MAX_IMAGES = 10_000_000  # in a file from elsewhere


class Predictions(NamedTuple):
    """Labels and predicted classes of a test set, in its order.

    Attributes:
        labels: [N].
        student: predicted classes [N].
        teacher: the teacher's predicted classes [N]; None: there was no teacher.
    """

    labels: NDArray[Any]
    student: NDArray[Any]
    teacher: NDArray[Any] | None


def prediction_bytes(labels: "Tensor", student: "Tensor", teacher: "Tensor | None" = None) -> bytes:
    """Return the content of the file of test predictions, with a checksum for each tensor.

    The tensors are `labels` [N], `NET.class` [N] and either `NET.logits` [N, K] in float16 or, for
    large test sets, `NET.top_class` and `NET.top_probability` [N, 5]; NET is `student` or
    `teacher`.

    Args:
        labels: [N].
        student: logits [N, K].
        teacher: logits [N, K]; None: there was no teacher.
    """
    from kd.io.tensors import safetensors_bytes

    nets = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    parts: dict[str, Tensor] = {"labels": _small(labels, student.shape[1])}
    for name, logits in nets.items():
        parts |= {f"{name}.{key}": value for key, value in _kept(logits.float().cpu()).items()}
    return safetensors_bytes(parts)


def _kept(logits: "Tensor") -> dict[str, "Tensor"]:
    """Tensors that stand for logits [N, K]."""
    import torch

    classes = logits.shape[1]
    # Of the logits in float32: rounding them to float16 may make two equal.
    kept = {"class": _small(logits.argmax(1), classes)}
    half = torch.finfo(torch.float16)
    if logits.numel() * half.bits // 8 <= MAX_LOGITS:
        return {**kept, "logits": logits.clamp(half.min, half.max).half()}
    probability, index = logits.softmax(1).topk(min(TOP, classes))
    return {
        **kept,
        "top_class": _small(index, classes),
        "top_probability": probability.half(),
    }


def _small(index: "Tensor", classes: int) -> "Tensor":
    """Class indices in the smallest type that holds them."""
    import torch

    return index.cpu().to(torch.uint8 if classes <= 256 else torch.int32)


def read_predictions(path: Path) -> Predictions | None:
    """Read labels and predicted classes; None if the file is missing or damaged.

    Args:
        path: of the file, `RunFolder.test_predictions`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path)
        with safe_open(path, "np") as file:
            sums = parse_json((file.metadata() or {})["checksums"])
            names = [n for n in ("labels", "student.class", "teacher.class") if n in file.keys()]  # noqa: SIM118
            if any(math.prod(file.get_slice(name).get_shape()) > _MAX_IMAGES for name in names):
                raise ValueError(f"more than {_MAX_IMAGES} images")
            found = {name: file.get_tensor(name) for name in names}
        if _intact(found, sums):
            return Predictions(found["labels"], found["student.class"], found.get("teacher.class"))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("%s is damaged and left out: %s", path, error)
        return None
    log.warning("%s is damaged and left out: a checksum differs", path)
    return None


def _intact(found: Mapping[str, NDArray[Any]], sums: Mapping[str, int]) -> bool:
    """Whether all arrays are one class for each label, and those that were written."""
    shape = found["labels"].shape
    fits = all(a.ndim == 1 and a.shape == shape and a.dtype.kind in "iu" for a in found.values())
    return fits and all(
        zlib.crc32(np.ascontiguousarray(array).tobytes()) == sums[name]
        for name, array in found.items()
    )
