"""Data-free distillation: the loss of the images that are generated from a teacher alone.

    L = λ_bn Σ_l (‖μ_l − μ̂_l‖₂ + ‖σ²_l − σ̂²_l‖₂) + λ_class CE(t(x), y)
        − λ_adversarial ⟨1[argmax s(x) = argmax t(x)] KL(t(x) ‖ s(x))⟩

μ_l and σ²_l are mean and variance of each channel of the batch before batch norm l of the teacher,
μ̂_l and σ̂²_l those that the layer has stored from the teacher's training; y is the class that was
asked for, t and s are teacher and student. The last term makes images on which the two differ,
among those that they classify alike.

Papers: Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation", IJCAI 2021,
https://arxiv.org/abs/2105.08584 (CMI), and "Up to 100× Faster Data-free Knowledge Distillation",
AAAI 2022, https://arxiv.org/abs/2112.12542 (Fast), whose loss this is; the batch norm term is that
of Yin et al. 2020, https://arxiv.org/abs/1912.08795. CMI's contrast between generated images is
left out, as in Fast. `kd.distillers.datafree` generates the images and trains the student.

Reduction: sum over layers, mean over the batch in the last two terms.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.objectives.precision import upcast


class Statistics(NamedTuple):
    """Mean and variance of each channel [C] before a batch norm: of a batch, and as stored."""

    mean: Tensor
    var: Tensor
    stored_mean: Tensor
    stored_var: Tensor


class Inversion(NamedTuple):
    """The three terms of the loss, unweighted."""

    statistics: Tensor
    hard: Tensor
    adversarial: Tensor


def datafree(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    layers: Sequence[Statistics],
    statistics: float = 1.0,
    asked: float = 1.0,
    adversarial: float = 1.0,
) -> Tensor:
    """Loss of generated images.

    Args:
        student_logits: of the images [B, K].
        teacher_logits: of the images [B, K].
        target: classes that the images are meant to have [B].
        layers: statistics of the images at the batch norms of the teacher.
        statistics: weight λ_bn ≥ 0.
        asked: weight λ_class ≥ 0.
        adversarial: weight λ_adversarial ≥ 0.

    Returns:
        Scalar.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> logits, layer = torch.tensor([[40.0, 0.0]]), Statistics(*torch.zeros(4, 3))
        >>> losses.datafree(logits, logits, torch.tensor([0]), [layer])
        tensor(0.)

    Reference:
        Fang et al. 2022, https://arxiv.org/abs/2112.12542
    """
    terms = inversion(student_logits, teacher_logits, target, layers)
    return statistics * terms.statistics + asked * terms.hard + adversarial * terms.adversarial


def inversion(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, layers: Sequence[Statistics]
) -> Inversion:
    """Compute the terms of the loss of generated images; arguments as of `datafree`."""
    ours, theirs = upcast(student_logits), upcast(teacher_logits)
    distance = sum((_distance(layer) for layer in layers), start=ours.new_zeros(()))
    alike = (ours.argmax(1) == theirs.argmax(1)).to(ours.dtype)
    log_s, log_t = ours.log_softmax(1), theirs.log_softmax(1)
    divergence = (log_t.exp() * (log_t - log_s)).sum(1)
    return Inversion(distance, F.cross_entropy(theirs, target), -(alike * divergence).mean())


def _distance(layer: Statistics) -> Tensor:
    mean, var, stored_mean, stored_var = map(upcast, layer)
    return (mean - stored_mean).norm() + (var - stored_var).norm()


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of a net that have stored statistics.

    Example:
        >>> len(batch_norms(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.LayerNorm(3))))
        1
    """
    found = (m for m in net.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


@contextmanager
def recorded_statistics(net: nn.Module) -> Iterator[list[Statistics]]:
    """Yield a list to which every forward pass in the block adds the statistics of its batch.

    Example:
        >>> import torch
        >>> net = nn.BatchNorm1d(2).eval()
        >>> with recorded_statistics(net) as layers:
        ...     _ = net(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        >>> layers[0].mean.tolist(), layers[0].var.tolist(), layers[0].stored_var.tolist()
        ([2.0, 0.0], [1.0, 0.0], [1.0, 1.0])
    """
    layers: list[Statistics] = []
    hooks = [
        norm.register_forward_pre_hook(partial(_record, layers, norm)) for norm in batch_norms(net)
    ]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def _record(
    layers: list[Statistics], norm: _BatchNorm, _: nn.Module, inputs: tuple[Any, ...]
) -> None:
    channels = upcast(inputs[0]).transpose(0, 1).flatten(1)  # [B, C, …] → [C, …]
    assert norm.running_mean is not None  # see `batch_norms`
    assert norm.running_var is not None
    stored = norm.running_mean, norm.running_var
    layers.append(Statistics(channels.mean(1), channels.var(1, correction=0), *stored))
