"""What comes after a tap, as a net of its own, for nets that weight what comes before."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.taps import INPUT_SUFFIX, Taps


class Tail(nn.Module):
    """The part of a net behind a tap: feature of the tap [B, …] -> logits [B, K].

    In a copy of the net, all modules that have run before the tap become identities, and the
    tapped one hands on the feature it is given. The keys in `net`'s state dict are the whole net's.

    Args:
        net: the whole net; it is left as it is.
        place: the tap's module path, with `:in` behind it for the module's input.
        images: a few images [b, C, H, W], to see in which order the modules run.
    """

    def __init__(self, net: nn.Module, place: str, images: Tensor) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)
        self._given: Tensor | None = None
        path = place.removesuffix(INPUT_SUFFIX)
        for name in _finished_before(self.net, place, images):
            self.net.set_submodule(name, nn.Identity())
        if place.endswith(INPUT_SUFFIX):
            self.net.get_submodule(path).register_forward_pre_hook(self._as_input)
        else:
            self.net.set_submodule(path, nn.Identity())
            self.net.get_submodule(path).register_forward_hook(self._as_output)

    def _as_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return (self._given,)

    def _as_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return self._given

    def forward(self, feature: Tensor) -> Tensor:
        self._given = feature
        logits: Tensor = self.net(feature)  # the input is not looked at: the feature is put in
        self._given = None
        return logits


def tail_of(net: nn.Module, tap_paths: Mapping[str, str], tap: str, images: Tensor) -> Tail:
    """The part of `net` behind a tap, once it has been seen to answer as the whole net does.

    Args:
        net: the whole net. tap_paths: its taps, canonical name -> module path.
        tap: the canonical name.
        images: a few images [b, C, H, W] that differ.

    Raises:
        UserError: the rest of the net reads more than the tap, or there is none; names the taps
            that will do.
    """
    rest = _replayed(net, tap_paths, tap, images)
    if rest is None:
        working = [
            other for other in tap_paths if _replayed(net, tap_paths, other, images) is not None
        ]
        raise UserError(
            f"distiller.branch_at={tap}: what comes after this tap cannot be run from it alone; "
            f"taps of this net that will do: {', '.join(working) or 'none'}"
        )
    return rest


@torch.no_grad()
def _replayed(
    net: nn.Module, tap_paths: Mapping[str, str], tap: str, images: Tensor
) -> Tail | None:
    """The rest behind a tap if it has weights and answers as the whole net; else None."""
    whole = Taps(copy.deepcopy(net), tap_paths, [tap]).probe(images)
    try:
        rest = Tail(net, tap_paths[tap], images)
        answer = rest.eval()(whole.taps[tap])
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError):
        return None
    trainable = next(rest.parameters(), None) is not None
    same = answer.shape == whole.logits.shape and torch.allclose(answer, whole.logits, 1e-4, 1e-5)
    return rest.train(net.training) if trainable and same else None


@torch.no_grad()
def _finished_before(net: nn.Module, place: str, images: Tensor) -> list[str]:
    """The modules whose forward is over when a tap is reached, without those within others.

    A module that runs again later is left out.
    """
    path, at_input = place.removesuffix(INPUT_SUFFIX), place.endswith(INPUT_SUFFIX)
    order: list[str] = []
    handles = [
        module.register_forward_hook(partial(_note, order, name))
        for name, module in net.named_modules()
    ]
    mark = place if at_input else path
    if at_input:
        handles.append(
            net.get_submodule(path).register_forward_pre_hook(partial(_note, order, mark))
        )
    was_training = net.training
    net.eval()(images)
    net.train(was_training)
    for handle in handles:
        handle.remove()
    reached = order.index(mark)
    done = set(order[:reached]) - set(order[reached:])
    return sorted(name for name in done if not _within(name, {*done, path}))


def _note(order: list[str], name: str, *_: Any) -> None:
    order.append(name)


def _within(name: str, others: set[str]) -> bool:
    """Whether a module lies in another one of these."""
    return any(name.startswith(f"{other}.") for other in others)
