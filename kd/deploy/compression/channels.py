"""Structured pruning: whole channels are removed from a net.

Parameters, multiply-accumulates and latency fall, since the layers of the pruned net are smaller
ones. Module paths stay, so that taps and methods work as with the unpruned net.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.deploy.compression.groups import Channels, DependencyGraph
from kd.errors import UserError
from kd.models.memory_format import is_channels_last
from kd.models.sizing import scaled

_TOLERANCE = 1e-6  # of logits in float64, relative to the largest


class PrunedNet(NamedTuple):
    """A net with fewer channels.

    Attributes:
        net: the pruned copy.
        channels: name of each layer whose channels were removed, with their number before and
            after. Of layers whose channels go together, the first.
        left: name of each layer whose channels cannot be removed, with the reason. The classifier
            is among them.
    """

    net: nn.Module
    channels: dict[str, tuple[int, int]]
    left: dict[str, str]


def remove_channels(
    net: nn.Module, input_shape: Sequence[int], ratio: float, round_to: int = 1
) -> PrunedNet:
    """Return a copy of a net without the channels of the smallest weights.

    Each layer, or group of layers whose channels depend on each other, loses the same share. A
    channel's importance is the mean over its group of the L2 norm of its weights, as in DepGraph
    (Fang et al. 2023, https://arxiv.org/abs/2301.12900). The outputs of the classifier stay. The
    result is compared with the net in which the channels are set to zero instead.

    Args:
        net: normalised images [B, C, H, W] -> logits [B, K], on the CPU; it stays as it is.
        input_shape: C, H and W.
        ratio: share of the channels to remove, above 0 and below 1.
        round_to: the number of channels that are left is a multiple of it where the layer has as
            many; 8 suits the vector units of most processors.

    Raises:
        ValueError: `ratio` or `round_to` is impossible.
        UserError: torch-pruning is not installed or cannot follow the net's operations, or no
            channel can be removed; the message says why.

    Example:
        >>> from kd.models.mlp import mlp
        >>> pruned = remove_channels(mlp(1, 8, 10, hidden=(32, 16)), (1, 8, 8), ratio=0.5)
        >>> pruned.channels
        {'stage1.0': (32, 16), 'stage2.0': (16, 8)}
        >>> pruned.net.fc
        Linear(in_features=8, out_features=10, bias=True)
    """
    _check(ratio, round_to)
    copy, masked = _traceable(net), deepcopy(net).double().eval()
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    graph = DependencyGraph(copy, images)
    found = list(graph.channels())
    free = [each for each in found if each.obstacle is None]
    chosen = {each.layer: _least_important(each, graph, ratio, round_to) for each in free}
    left = {each.layer: each.obstacle for each in found if each.obstacle is not None}
    _check_any(chosen, left, ratio, round_to)
    _mask(masked, copy, graph, chosen)
    expected = masked(images.double())
    sizes = _remove(copy, graph, chosen)
    _check_equal(expected, deepcopy(copy).double()(images.double()))
    return PrunedNet(_as_before(copy, net), sizes, left)


def _check(ratio: float, round_to: int) -> None:
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must be above 0 and below 1, got {ratio!r}")
    if type(round_to) is not int or round_to < 1:
        raise ValueError(f"round_to must be a whole number >= 1, got {round_to!r}")


def _traceable(net: nn.Module) -> nn.Module:
    """Return a copy in eval mode; torch-pruning follows the graph of autograd."""
    return deepcopy(net).eval().requires_grad_(True)


def _least_important(
    channels: Channels, graph: DependencyGraph, ratio: float, round_to: int
) -> list[int]:
    """Return the channels of a layer to remove, in ascending order."""
    importance = graph.library.importance.GroupMagnitudeImportance(p=2)(channels.group)
    kept = min(len(importance), scaled(len(importance), 1 - ratio, round_to))
    removed = importance.argsort(stable=True)[: len(importance) - kept]
    return sorted(removed.tolist())


def _check_any(
    chosen: dict[str, list[int]], left: dict[str, str], ratio: float, round_to: int
) -> None:
    if any(chosen.values()):
        return
    if chosen:
        raise UserError(
            f"ratio={ratio} removes no channel of this net, whose layers have too few of them "
            f"(round_to={round_to}); raise the ratio"
        )
    reasons = dict.fromkeys(reason for reason in left.values() if reason != "the net's output")
    raise UserError(
        "no channels of this net can be removed: all of them pass through "
        f"{', '.join(reasons) or 'no hidden layer'}; pruning by magnitude works with every net"
    )


@torch.no_grad()
def _mask(
    masked: nn.Module, copy: nn.Module, graph: DependencyGraph, chosen: dict[str, list[int]]
) -> None:
    """Make every layer of `masked` ignore the chosen channels of its input.

    A removed channel then has no effect, whatever batch norm and activation make of it.
    """
    names = {module: name for name, module in copy.named_modules()}
    for layer, removed in chosen.items():
        if removed:
            group = graph.group(copy.get_submodule(layer), removed)
            for module, inputs in graph.inputs(group):
                masked.get_parameter(f"{names[module]}.weight")[:, inputs] = 0


def _remove(
    net: nn.Module, graph: DependencyGraph, chosen: dict[str, list[int]]
) -> dict[str, tuple[int, int]]:
    sizes = {}
    for layer, removed in chosen.items():
        if removed:
            module = net.get_submodule(layer)
            before = graph.graph.get_out_channels(module)
            graph.group(module, removed).prune()
            sizes[layer] = before, before - len(removed)
    return sizes


def _check_equal(expected: Tensor, logits: Tensor) -> None:
    """Refuse a net whose channels are not independent, whatever its operations are called."""
    bound = _TOLERANCE * expected.abs().max().clamp(min=1)
    if logits.shape != expected.shape or not (logits - expected).abs().max() <= bound:
        raise UserError(
            "the channels of this net cannot be removed: without them it computes other logits "
            "than with zeros in their place, so some layer mixes channels in a way that "
            "torch-pruning does not follow; pruning by magnitude works with every net"
        )


def _as_before(copy: nn.Module, net: nn.Module) -> nn.Module:
    """Give the copy the modes, gradients and memory format of the net."""
    for new, old in zip(copy.modules(), net.modules(), strict=True):
        new.training = old.training
    for new_weight, old_weight in zip(copy.parameters(), net.parameters(), strict=True):
        new_weight.requires_grad_(old_weight.requires_grad)
        new_weight.grad = None
    if is_channels_last(net):
        copy.to(memory_format=torch.channels_last)
    return copy
