"""Unstructured pruning by magnitude while a student is trained.

The bytes of a file fall only where it is compressed (`gzip_bytes`), and the latency of dense
kernels does not fall: they multiply zeros as they do other numbers. Pruning of channels
(`kd.deploy.compression.channels`) makes the net itself smaller.
"""

import gzip
from typing import Any, NamedTuple, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils.prune import L1Unstructured

# Updates of the masks in a run; Zhu & Gupta update them every 100 to 1000 steps.
_UPDATES = 100


class Sparsity(NamedTuple):
    """Weights of convolutions and linear layers that are zero.

    Attributes:
        zeros: their number.
        weights: number of all.
    """

    zeros: int
    weights: int

    @property
    def fraction(self) -> float:
        """Share of zeros, in [0, 1]."""
        return self.zeros / max(1, self.weights)


def sparsity(net: nn.Module) -> Sparsity:
    """Count the zeros among a net's prunable weights.

    Example:
        >>> net = nn.Linear(4, 2)
        >>> _ = net.weight.data[0].zero_()
        >>> sparsity(net).fraction
        0.5
    """
    weights = prunable_weights(net)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return Sparsity(zeros, sum(weight.numel() for weight in weights))


def prunable_weights(net: nn.Module) -> list[nn.Parameter]:
    """Return the weights of convolutions and linear layers; biases and batch norm are left out.

    Both are few (1 % of ResNet-20), and a zero factor of batch norm removes a whole channel.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    found = [cast(nn.Parameter, m.weight) for m in net.modules() if isinstance(m, kinds)]
    return list(dict.fromkeys(found))  # a weight that two layers share counts once


def scheduled_sparsity(progress: float, target: float, ramp: float) -> float:
    """Return the sparsity that holds at a point of training.

    s = target · (1 − (1 − progress / ramp)³) up to `ramp`, then the target: Zhu & Gupta 2017,
    "To Prune, or Not to Prune", https://arxiv.org/abs/1710.01878, equation 1 with s_i = 0.

    Args:
        progress: share of training that is done, in [0, 1].
        target: final sparsity.
        ramp: share of training in which sparsity grows.

    Example:
        >>> [round(scheduled_sparsity(p, 0.8, 0.5), 3) for p in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.7, 0.8, 0.8]
    """
    left = max(0.0, 1 - progress / ramp)
    return target * (1 - left**3)


class MagnitudePruning(Callback):
    """Sets the smallest weights of the student to zero, more and more of them, and keeps them so.

    Magnitudes are ranked over all convolutions and linear layers at once (L1, global). The net has
    no masks: a pruned weight is a zero that gets neither gradient nor update, so that the state
    dict has the net's own keys, checkpoints are ordinary ones, and a resumed run goes on. Epochs
    before the target is reached are not selected by validation.

    Args:
        target: share of the weights that are zero in the end, in (0, 1).
        ramp: share of training in which sparsity grows to the target, in (0, 1); the rest trains
            the weights that are left.

    Raises:
        ValueError: a share is outside its range.

    Example:
        >>> MagnitudePruning(target=1.5)
        Traceback (most recent call last):
        ValueError: target must be above 0 and below 1, got 1.5
    """

    def __init__(self, target: float, ramp: float = 0.5) -> None:
        for name, value in (("target", target), ("ramp", ramp)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be above 0 and below 1, got {value!r}")
        self.target, self.ramp = target, ramp
        self.selectable = False  # see kd.callbacks.checkpoint
        self._weights: list[nn.Parameter] = []
        self._masks: list[Tensor] = []
        self._steps, self._every = 1, 1  # of the run; between two updates of the masks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._weights = prunable_weights(_student(pl_module))
        # Of a resumed run: the zeros are those that were pruned.
        self._masks = [weight != 0 for weight in self._weights]
        self._steps = max(int(trainer.estimated_stepping_batches), 1)
        self._every = max(1, int(self.ramp * self._steps / _UPDATES))
        self.selectable = self._progress(trainer) >= self.ramp

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        for weight, mask in zip(self._weights, self._masks, strict=True):
            if weight.grad is not None:  # a step may train other parameters only
                weight.grad.mul_(mask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        progress = self._progress(trainer)
        reached = progress >= self.ramp
        if not self.selectable and (reached or trainer.global_step % self._every == 0):
            self._update(scheduled_sparsity(progress, self.target, self.ramp))
        self.selectable = reached
        self._apply()

    def _progress(self, trainer: Trainer) -> float:
        return min(trainer.global_step / self._steps, 1.0)

    @torch.no_grad()
    def _update(self, share: float) -> None:
        """Mask the smallest share of all weights; those masked before are zero, so stay masked."""
        self._apply()
        values = torch.cat([weight.detach().reshape(-1) for weight in self._weights])
        count = round(share * len(values))
        if count == 0:
            return
        flat = L1Unstructured(count).compute_mask(values, torch.ones_like(values))
        sizes = [weight.numel() for weight in self._weights]
        self._masks = [
            part.view(weight.shape) != 0
            for part, weight in zip(flat.split(sizes), self._weights, strict=True)
        ]

    @torch.no_grad()
    def _apply(self) -> None:
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.mul_(mask)  # momentum moves a weight on whose gradient is zero


def gzip_bytes(content: bytes) -> int:
    """Return the bytes of a file's content after gzip at its highest level.

    Example:
        >>> gzip_bytes(bytes(1000)) < 50
        True
    """
    return len(gzip.compress(content, mtime=0))


def _student(pl_module: LightningModule) -> nn.Module:
    return cast(nn.Module, pl_module.student)
