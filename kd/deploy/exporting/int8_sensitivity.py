"""Sensitivity of a net to the quantisation of each of its layers."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from kd.deploy.exporting.int8_quantiser import Int8Quantiser
from kd.deploy.exporting.int8_trial import all_logits, in_runtime
from kd.objectives.kd import kl_per_sample

log = logging.getLogger(__name__)

# Standard error of the mean divergence: 9 to 11 % of it, by layer of a ResNet-8 on CIFAR-10.
_IMAGES = 256


def sensitivities(quantiser: Int8Quantiser, images: NDArray[np.uint8]) -> dict[str, float]:
    """Return, by layer, how far the output moves when that layer alone is quantised.

    Args:
        quantiser: of the net.
        images: uint8 [N, C, H, W]; the first 256 are used, and no labels.

    Returns:
        Name of a layer -> mean KL divergence of the class probabilities from those in fp32, nats.
    """
    images, names = images[:_IMAGES], [layer.name for layer in quantiser.layers]
    exact = _log_probabilities(quantiser.quantised(names), images)
    costs = {}
    for name in names:
        alone = quantiser.quantised([other for other in names if other != name])
        costs[name] = float(kl_per_sample(_log_probabilities(alone, images), exact).mean())
        log.debug("int8: %s alone: KL %.3g", name, costs[name])
    return costs


def _log_probabilities(model: bytes, images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(all_logits(in_runtime(model), images)).log_softmax(1)
