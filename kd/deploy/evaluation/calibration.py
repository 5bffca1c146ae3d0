"""Calibration of predicted probabilities, and the temperature that would calibrate them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from kd.deploy.evaluation.predictions import check_logits

BINS = 15
# Bounds of the fitted temperature. Where all images are classified correctly the likelihood has no
# optimum, and the lower bound is returned.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram.

    Attributes:
        low, high: bounds of the confidence; `low` belongs to the bin, 1 to the last one.
        images: number of images in the bin.
        confidence: their mean confidence; None: there are none.
        accuracy: fraction of them that are classified correctly; None: there are none.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidences match accuracies, at temperature 1.

    Attributes:
        ece: `ece` of the logits.
        ece_adaptive: `adaptive_ece` of the logits.
        nll: mean negative log-likelihood of the labels, in nats.
        brier: `brier` of the logits.
        reliability: the bins of the reliability diagram.
        temperature: fitted on validation images; None: none were given. It is reported only.
        ece_tempered: `ece` of the logits divided by that temperature.
        nll_tempered: `nll` of the logits divided by that temperature.
    """

    ece: float
    ece_adaptive: float
    nll: float
    brier: float
    reliability: list[Bin]
    temperature: float | None
    ece_tempered: float | None
    nll_tempered: float | None

    def figures(self) -> dict[str, Any]:
        """Return the figures under the keys of `kd.deploy.evaluation.keys`."""
        return {
            "ece": self.ece,
            "ece_adaptive": self.ece_adaptive,
            "nll": self.nll,
            "brier": self.brier,
            "reliability": [asdict(each) for each in self.reliability],
            "temperature": self.temperature,
            "ece/tempered": self.ece_tempered,
            "nll/tempered": self.nll_tempered,
        }


def calibration(
    logits: Tensor, targets: Tensor, validation: tuple[Tensor, Tensor] | None = None
) -> Calibration:
    """Return the calibration of test logits [N, K] for labels [N].

    Args:
        logits: on the test set [N, K].
        targets: labels [N].
        validation: logits [M, K] and labels [M] of other images, on which a temperature is fitted.

    Raises:
        UserError: logits that are not finite, or labels that are no class of the net.
    """
    check_logits(logits, targets)
    temperature = None if validation is None else fit_temperature(*validation)
    tempered = None if temperature is None else logits.double() / temperature
    return Calibration(
        ece=ece(logits, targets),
        ece_adaptive=adaptive_ece(logits, targets),
        nll=nll(logits, targets),
        brier=brier(logits, targets),
        reliability=reliability(logits, targets),
        temperature=temperature,
        ece_tempered=None if tempered is None else ece(tempered, targets),
        nll_tempered=None if tempered is None else nll(tempered, targets),
    )


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error of the predicted class, 15 bins of equal width.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, as torchmetrics computes it: confidences that
    are 1 in float32 are a bin of their own.
    """
    probabilities = logits.softmax(1)
    return multiclass_calibration_error(
        probabilities, targets, logits.shape[1], n_bins=BINS, norm="l1"
    ).item()


def nll(logits: Tensor, targets: Tensor) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), targets).item()


def brier(logits: Tensor, targets: Tensor) -> float:
    """Brier score: squared error of the probabilities, summed over the classes, in [0, 2].

    Brier 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. For two classes it
    is twice the score of the positive class alone.
    """
    onehot = F.one_hot(targets, logits.shape[1])
    return (logits.double().softmax(1) - onehot).square().sum(1).mean().item()


def adaptive_ece(logits: Tensor, targets: Tensor) -> float:
    """Calibration error of the predicted class, 15 bins of equal numbers of images.

    Bins by rank of the confidence (Nguyen & O'Connor 2015, https://arxiv.org/abs/1508.05154; Nixon
    et al. 2019, https://arxiv.org/abs/1904.01685, whose ACE averages over all classes; here the
    predicted class counts alone, as in `ece`). Bins differ by one image at most. Images of equal
    confidence share their mean accuracy, so that the order of the images has no influence.
    """
    confidence, right = _confidence(logits, targets)
    values, group, sizes = confidence.unique(return_inverse=True, return_counts=True)
    shares = torch.zeros_like(values).scatter_add_(0, group, right) / sizes
    accuracy = shares.repeat_interleave(sizes)
    gap = accuracy - values.repeat_interleave(sizes)
    bins = gap.tensor_split(min(BINS, len(gap)))
    return (torch.stack([each.sum().abs() for each in bins]).sum() / len(gap)).item()


def reliability(logits: Tensor, targets: Tensor) -> list[Bin]:
    """Return the 15 bins of equal width of the predicted class's confidence.

    DeGroot & Fienberg 1983, https://doi.org/10.2307/2987588; Guo et al. 2017.
    """
    confidence, right = _confidence(logits, targets)
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype)
    number = torch.bucketize(confidence, edges, right=True).sub(1).clamp(max=BINS - 1)
    bins = []
    for low, high, inside in zip(
        edges[:-1].tolist(), edges[1:].tolist(), (number == b for b in range(BINS)), strict=True
    ):
        count = int(inside.sum())
        means = [values[inside].mean().item() if count else None for values in (confidence, right)]
        bins.append(Bin(low, high, count, *means))
    return bins


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature that minimises the negative log-likelihood of the labels.

    Temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599). The likelihood is
    concave in 1/T, so the optimum found is the only one. Where T makes no difference it is 1.

    Args:
        logits: on validation images [M, K].
        targets: labels [M].

    Returns:
        T in [0.01, 100]; a bound means that the likelihood has no optimum inside: the lower one if
        all images are classified correctly, the upper one if the logits carry no information.

    Raises:
        UserError: logits that are not finite, or labels that are no class of the net.
    """
    check_logits(logits, targets)
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return nll(logits * math.exp(-log_temperature), targets)

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    inside = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    # The bounded search stops short of a bound; 1 comes first, so that it wins where all are equal.
    candidates = {0.0: 1.0, bounds[0]: MIN_TEMPERATURE, bounds[1]: MAX_TEMPERATURE}
    candidates[float(inside)] = math.exp(inside)
    rounded = {place: round(loss(place), 12) for place in candidates}
    return candidates[min(rounded, key=lambda place: rounded[place])]


def _confidence(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of the predicted class, and 1 where it is the label [N], float32."""
    # As torchmetrics has it: in float64 an image may fall into another bin.
    confidence, predicted = logits.softmax(1).max(1)
    return confidence.float(), (predicted == targets).float()
