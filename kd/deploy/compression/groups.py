"""Groups of channels that can be removed together, from the dependency graph of torch-pruning.

Fang, Ma, Song, Mi & Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023,
https://arxiv.org/abs/2301.12900. A channel of a convolution that is added to a shortcut, say, goes
together with that channel of every other term of the sum.
"""

import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd.errors import UserError

# Operations of autograd that treat all channels alike, or whose channels torch-pruning follows. It
# takes every other one, a channel shuffle among them, for one that treats all alike.
_FOLLOWED = set(
    """
    AdaptiveAvgPool2D AdaptiveMaxPool2D Add Alias AvgPool2D Cat Clone Elu Gelu Hardsigmoid Hardswish
    Hardtanh LeakyRelu MaxPool2DWithIndices Mean Mul NativeDropout Relu Sigmoid Silu Squeeze
    Sub T Tanh UnsafeView UpsampleBilinear2D UpsampleNearest2D View
    """.split()  # noqa: SIM905
)
_IN_WORDS = {
    "ChannelShuffle": "a channel shuffle",
    "Transpose": "a channel shuffle or another transposition",
    "Permute": "a transposition",
    "NativeBatchNorm": "a layer that is batch norm and activation in one",
    "ConstantPadNd": "a shortcut that pads channels",
    "Slice": "a slice, as of a shortcut that pads channels",
    "Split": "a split of channels",
}


class Channels(NamedTuple):
    """The output channels of a layer, with everything that they reach.

    Attributes:
        layer: name of the layer.
        module: the layer.
        group: torch-pruning's group of all its channels; None: torch-pruning cannot follow them.
        obstacle: why they cannot be removed; None: they can.
    """

    layer: str
    module: nn.Module
    group: Any
    obstacle: str | None


class DependencyGraph:
    """Channels of a net that depend on each other.

    Args:
        net: on the CPU, in eval mode; all its parameters require gradients.
        images: normalised images [B, C, H, W], with which the net is traced.

    Raises:
        UserError: torch-pruning is not installed, or cannot trace the net.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self._net, self.library = net, import_torch_pruning()
        graph = self.library.DependencyGraph()
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                # Of parameters that belong to no layer; `obstacle` names them.
                warnings.filterwarnings("ignore", "Unwrapped parameters detected")
                self.graph = graph.build_dependency(net, images, verbose=False)
        except Exception as error:  # whatever a net leads to that torch-pruning does not know
            raise UserError(
                f"torch-pruning cannot trace this net ({type(error).__name__}: {error}); pruning "
                "by magnitude works with every net"
            ) from error

    def channels(self) -> Iterator[Channels]:
        """Yield the channels of each layer; layers whose channels go together are one entry."""
        seen: set[nn.Module] = set()
        for name, module in self._net.named_modules():
            if module in seen or not _is_root(module) or module not in self.graph.module2node:
                continue
            try:
                group = self.group(module, range(self.graph.get_out_channels(module)))
            except (IndexError, KeyError, AssertionError, RuntimeError, TypeError):
                yield Channels(name, module, None, "operations that torch-pruning cannot follow")
                continue
            seen |= {
                dep.target.module
                for dep, _ in group
                if self.graph.is_out_channel_pruning_fn(dep.handler)
            }
            yield Channels(name, module, group, self._obstacle(group))

    def group(self, module: nn.Module, channels: Any) -> Any:
        """Return torch-pruning's group of some output channels of a layer."""
        prune = self.graph.get_pruner_of_module(module).prune_out_channels
        return self.graph.get_pruning_group(module, prune, list(channels))

    def inputs(self, group: Any) -> Iterator[tuple[nn.Conv2d | nn.Linear, list[int]]]:
        """Yield the layers that read the channels of a group, and which of their inputs."""
        for dep, channels in group:
            module = dep.target.module
            reads = self.graph.is_in_channel_pruning_fn(dep.handler)
            if reads and isinstance(module, nn.Conv2d | nn.Linear) and not is_depthwise(module):
                yield module, channels

    def _obstacle(self, group: Any) -> str | None:
        passed = (_unfollowed(node) for dep, _ in group for node in (dep.source, dep.target))
        if found := next(filter(None, passed), None):
            return found
        return None if any(True for _ in self.inputs(group)) else "the net's output"


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module is a convolution with one filter for each channel."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups > 1
        and module.groups == module.in_channels == module.out_channels
    )


def import_torch_pruning() -> Any:
    """Import torch-pruning.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise UserError(
            "pruning of channels needs torch-pruning, which is not installed; "
            "pip install 'kd[compress]'"
        ) from error
    return torch_pruning


def _is_root(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear) and not is_depthwise(module)


def _unfollowed(node: Any) -> str | None:
    """Return in words what a node of the graph does if channels in front of it cannot go."""
    module = node.module
    if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
        return f"a grouped convolution (groups={module.groups})"
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)
    if isinstance(module, kinds):
        return None
    if isinstance(module, nn.Parameter):
        return "a parameter outside of any layer"
    if type(module).__module__.startswith("torch_pruning"):
        return _unfollowed_operation(node)
    return f"a {type(module).__name__}"


def _unfollowed_operation(node: Any) -> str | None:
    if node.grad_fn is None:  # torch-pruning's entry of the net's output
        return None
    operation = re.sub(r"Backward\d*$", "", type(node.grad_fn).__name__)
    if operation in _FOLLOWED:
        return None
    return _IN_WORDS.get(operation, f"the operation {operation}")
