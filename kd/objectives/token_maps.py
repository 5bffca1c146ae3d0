"""Tokens of nets on patches as maps, for objectives that compare maps of any two architectures.

A transformer or Mixer on images returns tokens [B, P + N, D]: P tokens that stand for no place
(class, distillation, registers), then those of the N patches of a square grid, row by row. Such a
grid is a map [B, D, √N, √N]. The number P follows from the length of the sequence.
"""

from math import isqrt

from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.types import Outputs

MAX_PREFIX = 5  # a class token and four registers (Darcet et al. 2024, arXiv:2309.16588)


def as_grid(tokens: Tensor) -> Tensor:
    """Lay the tokens of patches out as a map; leave out those in front of them.

    Args:
        tokens: [B, P + N, D] with a square number N and P ≤ 5.

    Returns:
        [B, D, √N, √N]; any other tensor as it is.

    Example:
        >>> import torch
        >>> as_grid(torch.tensor([9.0, 0.0, 1.0, 2.0, 3.0]).view(1, 5, 1))
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    if tokens.dim() != 3:
        return tokens
    length = tokens.shape[1]
    side = isqrt(length)
    prefix = length - side * side
    if prefix > MAX_PREFIX:
        return tokens
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (side, side))


def with_maps(objective: Objective, outputs: Outputs, inputs: Tensor) -> Outputs:
    """Return one net's outputs as an objective reads them: with tokens as maps, or as they are.

    Args:
        objective: one that reads taps of these outputs.
        outputs: of the student or the teacher.
        inputs: images [B, C, H, W], or texts [B, L], whose tokens are no patches.

    Raises:
        UserError: the objective cannot read tokens; the message has tap, shape and reason.
    """
    if inputs.dim() != 4:
        return outputs
    tokens = [tap for tap, tensor in outputs.taps.items() if tensor.dim() == 3]
    if tokens and objective.refuses_tokens:
        _refuse(objective, outputs, tokens)
    if not tokens or not objective.tokens_as_maps:
        return outputs
    return outputs._replace(taps={tap: as_grid(tensor) for tap, tensor in outputs.taps.items()})


def _refuse(objective: Objective, outputs: Outputs, tokens: list[str]) -> None:
    for tap in tokens:
        # The student's outputs may have taps of other objectives.
        if tap in (*objective.student_taps, *objective.teacher_taps):
            method = type(objective).__module__.rpartition(".")[2]
            raise UserError(
                f"{method} cannot read tap {tap!r} of a net on patches, tokens "
                f"{list(outputs.taps[tap].shape)}: {objective.refuses_tokens}; choose a "
                "convolutional net, or a method such as fitnet, at, ofa or vkd"
            )
