"""Classifiers of the nets: linear ones, and frozen copies of the teacher's for other tensors."""

import torch
from torch import Tensor, nn

from kd.compat import copy_without_hooks
from kd.errors import UserError


def frozen_head(
    head: nn.Module | None, embedding: Tensor, logits: Tensor, source: str
) -> nn.Module:
    """Copy the teacher's head without gradients, after a check that it computes the logits.

    Args:
        head: the teacher's head; None if it is unknown.
        embedding: input of the head for one batch [B, D].
        logits: the teacher's logits for that batch [B, K].
        source: name of the tensor `embedding`, for the error message.

    Returns:
        The copy, in eval mode.

    Raises:
        UserError: the head is None, or `head(embedding)` is not `logits`.
    """
    if head is None:
        raise UserError(
            "the method reads the teacher's head, and none is known: the tap 'embedding' must be "
            "the input of a module, such as +teacher.taps.embedding=fc:in"
        )
    # The hooks of a tapped head refer to the whole teacher.
    copy: nn.Module = copy_without_hooks(head).eval().requires_grad_(False)
    if not _reproduces(copy, embedding, logits):
        raise UserError(
            f"the teacher's head {copy} does not make its logits {list(logits.shape)} of {source}, "
            f"{list(embedding.shape)}: another layer between them is not part of the copy"
        )
    return copy


def linear_head(method: str, role: str, head: nn.Module | None) -> nn.Linear:
    """Return a net's head if it is a linear layer.

    Args:
        method: name of the method, for the error message.
        role: `student` or `teacher`.
        head: the net's head; None if it is unknown.

    Raises:
        UserError: it is None or another module.
    """
    if not isinstance(head, nn.Linear):
        found = "none is known" if head is None else f"the {role} has {head}"
        remedies = f"Choose another {role}, or name the layer's input: +{role}.taps.embedding=fc:in"
        if role == "teacher" and head is None:
            remedies += "; of an ensemble, name the member that is read: teacher.features=resnet20"
        raise UserError(
            f"{method} reads the weight of the {role}'s classifier, which must be a linear layer "
            f"with the tap 'embedding' as its input; {found}. {remedies}"
        )
    return head


@torch.no_grad()
def _reproduces(head: nn.Module, embedding: Tensor, logits: Tensor) -> bool:
    try:
        output = head(embedding)
    except RuntimeError:  # torch's error for an input of another shape
        return False
    if output.shape != logits.shape:
        return False
    # Averaging a map after the forward pass instead of within it reorders sums: 1e-3 of the largest
    # logit is far above that and far below the effect of a missing layer.
    return torch.allclose(output, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
