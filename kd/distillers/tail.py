"""The part of a net after a tap as a module of its own, for branches that share a trunk."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.taps import INPUT_SUFFIX, Taps


class Tail(nn.Module):
    """The layers of a net after a tap: tapped feature [B, …] -> logits [B, K].

    Works for any `forward`, without a list of layers: in a copy of the net, every module that
    finishes before the tap is replaced by an identity, and a hook makes the tapped module return
    the given feature. State dict keys are those of the whole net.

    Args:
        net: the whole net; not modified.
        path: module path of the tap, ending in `:in` for the module's input.
        images: a small batch [b, C, H, W], run once to find the execution order of the modules.
    """

    def __init__(self, net: nn.Module, path: str, images: Tensor) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)  # the given net keeps its modules, and stays a whole net
        self._feature: Tensor | None = None
        name = path.removesuffix(INPUT_SUFFIX)
        for finished in _finished_before(self.net, path, images):
            self.net.set_submodule(finished, nn.Identity())
        if path.endswith(INPUT_SUFFIX):
            self.net.get_submodule(name).register_forward_pre_hook(self._replace_input)
        else:
            self.net.set_submodule(name, nn.Identity())
            self.net.get_submodule(name).register_forward_hook(self._replace_output)

    def _replace_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return (self._feature,)

    def _replace_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return self._feature

    def forward(self, feature: Tensor) -> Tensor:
        self._feature = feature
        logits: Tensor = self.net(feature)  # the argument is unused: the hook inserts the feature
        self._feature = None
        return logits


def tail_of(net: nn.Module, tap_paths: Mapping[str, str], tap: str, images: Tensor) -> Tail:
    """Return the part of a net after a tap, once it is checked against the whole net.

    Args:
        net: the whole net.
        tap_paths: its taps, canonical name -> module path.
        tap: the canonical name.
        images: a small batch [b, C, H, W] of different images.

    Raises:
        UserError: the layers after the tap read other tensors as well (a shortcut around the
            tap), or have no parameters; the message lists the taps that work.
    """
    tail = _checked_tail(net, tap_paths, tap, images)
    if tail is None:
        working = [t for t in tap_paths if _checked_tail(net, tap_paths, t, images) is not None]
        raise UserError(
            f"distiller.branch_at={tap}: the layers after this tap cannot be run on it alone; "
            f"taps of this net that work: {', '.join(working) or 'none'}"
        )
    return tail


@torch.no_grad()
def _checked_tail(
    net: nn.Module, tap_paths: Mapping[str, str], tap: str, images: Tensor
) -> Tail | None:
    """Return the tail if it has parameters and reproduces the net's logits; else None."""
    whole = Taps(copy.deepcopy(net), tap_paths, [tap]).probe(images)
    try:
        tail = Tail(net, tap_paths[tap], images)
        logits = tail.eval()(whole.taps[tap])
    # A wrong cut runs arbitrary code of the net on tensors of unexpected shapes.
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError):
        return None
    trainable = next(tail.parameters(), None) is not None
    # 1e-5: convolutions of the same numbers differ in the last bits with other memory layouts.
    same = logits.shape == whole.logits.shape and torch.allclose(logits, whole.logits, 1e-4, 1e-5)
    return tail.train(net.training) if trainable and same else None


@torch.no_grad()
def _finished_before(net: nn.Module, path: str, images: Tensor) -> list[str]:
    """Return the outermost modules whose last forward call ends before the tap is reached."""
    name, at_input = path.removesuffix(INPUT_SUFFIX), path.endswith(INPUT_SUFFIX)
    order: list[str] = []  # module names in the order in which their forward calls end
    handles = [
        module.register_forward_hook(partial(_record, order, own))
        for own, module in net.named_modules()
    ]
    mark = path if at_input else name
    if at_input:
        pre_hook = partial(_record, order, mark)
        handles.append(net.get_submodule(name).register_forward_pre_hook(pre_hook))
    was_training = net.training
    net.eval()(images)
    net.train(was_training)
    for handle in handles:
        handle.remove()
    reached = order.index(mark)
    finished = set(order[:reached]) - set(order[reached:])  # a shared module may run again later
    return sorted(own for own in finished if not _inside(own, {*finished, name}))


def _record(order: list[str], name: str, *_: Any) -> None:
    order.append(name)


def _inside(name: str, others: set[str]) -> bool:
    """Return whether a module is a descendant of one of the others."""
    return any(name.startswith(f"{other}.") for other in others)
