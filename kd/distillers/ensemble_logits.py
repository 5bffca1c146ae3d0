"""Ensembles of the logits of jointly trained nets (KDCL).

    mean:       z = (1/M) Σ_i z_i
    min_loss:   z = z_k,  k = argmin_i CE(z_i, y), per sample
    min_logit:  z[c] = min_i (z_i[c] − z_i[y]), per sample and class: 0 for the label y, and for
                every other class the value of the net that rates it lowest

Guo et al., "Online Knowledge Distillation via Collaborative Learning", CVPR 2020 (link in
`kd.distillers.kdcl`): `min_loss` is its KDCL-Naive, `min_logit` its KDCL-MinLogit. Its ensembles
with fitted weights, KDCL-Linear and KDCL-General, are not implemented.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError

Ensemble = Callable[[Tensor, Tensor], Tensor]


def mean_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the nets of logits [M, B, K] -> [B, K]; `target` is not read."""
    return logits.mean(0)


def min_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Select, for each sample, the logits of the net with the lowest cross-entropy.

    Args:
        logits: of M nets [M, B, K].
        target: class indices [B], or class probabilities [B, K].

    Returns:
        Logits [B, K].

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> min_loss(logits, torch.tensor([1]))
        tensor([[0., 1.]])
    """
    losses = [F.cross_entropy(z, target, reduction="none") for z in logits]
    best = torch.stack(losses).argmin(0)
    return logits.gather(0, best[None, :, None].expand(1, -1, logits.shape[2]))[0]


def min_logit(logits: Tensor, target: Tensor) -> Tensor:
    """Return the minimum over the nets of logits [M, B, K] relative to the label's -> [B, K].

    Raises:
        UserError: `target` is not class indices [B].

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> min_logit(logits, torch.tensor([1]))
        tensor([[-1.,  0.]])
    """
    if target.dim() != 1:
        raise UserError("distiller.ensemble=min_logit reads labels, and data/augment mixes them")
    labels = target[None, :, None].expand(len(logits), -1, 1)
    return (logits - logits.gather(2, labels)).amin(0)


ENSEMBLES: dict[str, Ensemble] = {
    "mean": mean_logits,
    "min_logit": min_logit,
    "min_loss": min_loss,
}
