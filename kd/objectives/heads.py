"""The teacher's classifier, for methods that read it."""

import torch
from torch import Tensor, nn

from kd.compat import copy_without_hooks
from kd.errors import UserError


def frozen_head(head: nn.Module | None, embedding: Tensor, logits: Tensor, place: str) -> nn.Module:
    """Copy the teacher's head, without gradients, if it turns `embedding` into `logits`.

    Args:
        head: the teacher's head.
        embedding: what it is going to read [B, D], of the probed batch.
        logits: the teacher's logits [B, K] of that batch.
        place: where `embedding` comes from, for the message.

    Raises:
        UserError: there is no head, or it answers otherwise.
    """
    if head is None:
        raise UserError(
            "the method reads the teacher's head, and none is known: the tap 'embedding' must be "
            "the input of a module, such as +teacher.taps.embedding=fc:in"
        )
    # The hooks of a tapped head refer to the whole teacher.
    copy: nn.Module = copy_without_hooks(head).eval().requires_grad_(False)
    if not _answers(copy, embedding, logits):
        raise UserError(
            f"the teacher's head {copy} does not make its logits {list(logits.shape)} of {place}, "
            f"{list(embedding.shape)}: something lies between that the method cannot repeat"
        )
    return copy


@torch.no_grad()
def _answers(head: nn.Module, embedding: Tensor, logits: Tensor) -> bool:
    try:
        answer = head(embedding)
    except RuntimeError:  # other shapes
        return False
    if answer.shape != logits.shape:
        return False
    return torch.allclose(answer, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
