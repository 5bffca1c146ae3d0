"""A data set as tensors, loaded, moved and hashed once."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kd.errors import UserError

log = logging.getLogger(__name__)


class Arrays(NamedTuple):
    """A whole data set: images uint8 [N, C, S, S], targets int64 [N] in range(len(class_names)).

    `val_*` only where the data set brings a validation set of its own.
    """

    train_images: Tensor
    train_targets: Tensor
    test_images: Tensor
    test_targets: Tensor
    class_names: list[str]
    val_images: Tensor | None = None
    val_targets: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        return [value for value in self if isinstance(value, Tensor)]

    def problems(self) -> list[str]:
        """What makes these arrays unfit for training, one sentence each."""
        found = []
        height, width = self.train_images.shape[2:]
        if height != width:
            found.append(f"images must be square, got {height} x {width}")
        if len(self.class_names) < 2:
            found.append(f"at least two classes are needed, got {self.class_names}")
        counts = torch.bincount(self.train_targets, minlength=len(self.class_names))
        pairs = zip(self.class_names, counts.tolist(), strict=True)
        if empty := [name for name, count in pairs if count == 0]:
            found.append(f"no training image of class {', '.join(empty)}")
        for split, targets in (("test", self.test_targets), ("validation", self.val_targets)):
            if targets is not None and len(targets) == 0:
                found.append(f"no {split} image")
        return found


class Pool:
    """Holds the arrays of one data set for all variants of its data module."""

    def __init__(self) -> None:
        self.arrays: Arrays | None = None
        self._digests: dict[str, str] = {}

    def load(self, load: Callable[[], Arrays], name: str) -> Arrays:
        if self.arrays is None:
            arrays = load()
            if problems := arrays.problems():
                raise UserError(f"data {name!r}: " + "; ".join(problems))
            self.arrays = arrays
        return self.arrays

    def move(self, device: torch.device) -> None:
        """Put all tensors on the device, unless that would leave less room than it takes."""
        arrays = self.arrays
        if arrays is None or arrays.train_images.device == device:
            return
        size = sum(tensor.nbytes for tensor in arrays.tensors())
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] / 2:
            log.warning("%d MB of images stay in main memory: %s is too full", size >> 20, device)
            return
        fields: dict[str, Any] = arrays._asdict()
        for name, value in fields.items():
            fields[name] = value.to(device) if isinstance(value, Tensor) else value
        self.arrays = Arrays(**fields)

    def digest(self, fields: tuple[str, ...]) -> str:
        """Content hash of some of the arrays, computed once for each field."""
        assert self.arrays is not None
        for field in fields:
            if field not in self._digests:
                self._digests[field] = digest([getattr(self.arrays, field)])
        return digest(self._digests[field] for field in fields)


def digest(parts: Iterable[object]) -> str:
    """32 hex digits over tensors (bytes, shape, type) and anything else (its repr)."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            state.update(f"{part.dtype}{tuple(part.shape)}".encode())
            state.update(part.cpu().contiguous().numpy().data)
        else:
            state.update(repr(part).encode())
    return state.hexdigest()
