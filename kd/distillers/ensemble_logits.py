"""One answer of many nets: how collaborative learning joins their logits.

    mean:       z = (1/M) Σ_i z_i
    min_loss:   z = z_k,  k = argmin_i CE(z_i, y), by sample
    min_logit:  z[c] = min_i (z_i[c] − z_i[y]), by sample and class: 0 for the label y, and for
                every other class what the net says that believes in it least

Guo, Wang, Wu, Yu, Liang, Hu & Luo, "Online Knowledge Distillation via Collaborative Learning",
2020 (KDCL): min_loss is its KDCL-Naive, min_logit its KDCL-MinLogit. Its two ensembles with fitted
weights (KDCL-Linear, KDCL-General) are left out.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError

Ensemble = Callable[[Tensor, Tensor], Tensor]


def mean_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the nets of logits [M, B, K] -> [B, K]; the labels play no part."""
    return logits.mean(0)


def min_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Of logits [M, B, K], for each sample those of the net with the least loss -> [B, K].

    Args:
        logits: of M nets.
        target: class numbers [B], or pairing_weights of the classes [B, K].
    """
    losses = [F.cross_entropy(z, target, reduction="none") for z in logits]
    best = torch.stack(losses).argmin(0)
    return logits.gather(0, best[None, :, None].expand(1, -1, logits.shape[2]))[0]


def min_logit(logits: Tensor, target: Tensor) -> Tensor:
    """Least logits of [M, B, K] relative to the label's -> [B, K].

    Raises:
        UserError: the labels [B] are no class numbers.
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
