"""Inputs and outputs of the files that kd.export writes, by task."""

from collections.abc import Sequence
from typing import NamedTuple

from kd.deploy.exporting.description import Description


class Signature(NamedTuple):
    """Type and number of dimensions of the input, and numbers of dimensions of the outputs.

    Attributes:
        kind: of the model, for messages.
        words: the same in words.
    """

    input_type: str
    input_dims: int
    output_dims: tuple[int, ...]
    kind: str
    words: str

    def fits(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[int]) -> bool:
        """Return whether a model with these inputs (type, dimensions) and outputs is such a one."""
        return [*inputs] == [(self.input_type, self.input_dims)] and (
            tuple(outputs) == self.output_dims
        )


_IMAGES = Signature("uint8", 4, (2,), "classifier of images", "uint8 [B, C, H, W] -> logits [B, K]")
_BY_TASK = {
    "text_classification": Signature(
        "int64", 2, (2,), "classifier of texts", "int64 [B, L] -> logits [B, K]"
    ),
    "detection": Signature(
        "uint8", 4, (3, 3), "detector", "uint8 [B, C, S, S] -> boxes [B, N, 4], scores [B, N, K]"
    ),
}


def signature(description: Description | None) -> Signature:
    """Return the signature of the files of a task; of files that do not name one, of images.

    Example:
        >>> signature(None).words
        'uint8 [B, C, H, W] -> logits [B, K]'
    """
    return _BY_TASK.get(description["task"] if description else "", _IMAGES)
