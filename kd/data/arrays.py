"""A whole data set as tensors, shared by all variants of a data module."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kd.errors import UserError

log = logging.getLogger(__name__)


class Arrays(NamedTuple):
    """A whole data set: samples, and targets int64 [N] in range(len(class_names)).

    Images are uint8 [N, C, S, S], texts token ids [N, L].

    Attributes:
        train_inputs: [N, …], the training pool.
        train_targets: int64 [N].
        test_inputs: [M, …].
        test_targets: int64 [M].
        class_names: names of the K classes in the order of their labels.
        val_inputs, val_targets: the data set's own validation set; None: it has none, and a part of
            the training pool is held out.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    class_names: list[str]
    val_inputs: Tensor | None = None
    val_targets: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        return [value for value in self if isinstance(value, Tensor)]

    def problems(self) -> list[str]:
        """Reasons why training on these arrays is impossible, one sentence each."""
        if found := self._labels_of_no_class():
            return found
        if len(self.class_names) < 2:
            found.append(f"at least two classes are needed, got {self.class_names}")
        counts = torch.bincount(self.train_targets, minlength=len(self.class_names))
        pairs = zip(self.class_names, counts.tolist(), strict=True)
        if empty := [name for name, count in pairs if count == 0]:
            found.append(f"no training sample of class {', '.join(empty)}")
        for split, targets in (("test", self.test_targets), ("validation", self.val_targets)):
            if targets is not None and len(targets) == 0:
                found.append(f"no {split} sample")
        return found

    def _labels_of_no_class(self) -> list[str]:
        found, classes = [], len(self.class_names)
        targets = {"training": self.train_targets, "test": self.test_targets}
        if self.val_targets is not None:
            targets["validation"] = self.val_targets
        for split, labels in targets.items():
            wrong = labels[(labels < 0) | (labels >= classes)]
            if len(wrong):
                found.append(
                    f"{len(wrong)} {split} labels are not in 0..{classes - 1}, such as "
                    f"{int(wrong[0])}"
                )
        return found


class Pool:
    """The arrays of one data set and their digests; loaded, moved and hashed at most once."""

    def __init__(self) -> None:
        self.arrays: Arrays | None = None
        self._digests: dict[str, str] = {}

    def load(
        self, load: Callable[[], Arrays], name: str, problems_of: Callable[[Arrays], list[str]]
    ) -> Arrays:
        """Load the arrays unless they are there.

        Raises:
            UserError: there are problems, which are all named.
        """
        if self.arrays is None:
            arrays = load()
            if problems := problems_of(arrays):
                raise UserError(f"data {name!r}: " + "; ".join(problems))
            self.arrays = arrays
        return self.arrays

    def move(self, device: torch.device) -> None:
        """Move all tensors to the device, unless they take more than half of its free memory."""
        arrays = self.arrays
        if arrays is None or arrays.train_inputs.device == device:
            return
        size = sum(tensor.nbytes for tensor in arrays.tensors())
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] / 2:
            log.warning("%d MB of samples stay in main memory: %s is too full", size >> 20, device)
            return
        fields: dict[str, Any] = arrays._asdict()
        for name, value in fields.items():
            fields[name] = value.to(device) if isinstance(value, Tensor) else value
        self.arrays = Arrays(**fields)

    def digest(self, fields: tuple[str, ...]) -> str:
        """Hash of the content of some fields; each field is hashed once."""
        assert self.arrays is not None
        for field in fields:
            if field not in self._digests:
                self._digests[field] = digest([getattr(self.arrays, field)])
        return digest(self._digests[field] for field in fields)


def digest(parts: Iterable[object]) -> str:
    """Hash (BLAKE2b, 32 hexadecimal digits) of tensors and other values.

    Of a tensor, its type, shape and bytes count; of any other value, its repr.

    Example:
        >>> digest([torch.zeros(2), "a"]) == digest([torch.zeros(2), "a"])
        True
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2).double()])
        False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            state.update(f"{part.dtype}{tuple(part.shape)}".encode())
            # As bytes: NumPy has no bfloat16.
            state.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            state.update(repr(part).encode())
    return state.hexdigest()
