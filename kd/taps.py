"""Intermediate tensors of a net by name, read through forward hooks."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kd.compat import tensor_version
from kd.errors import UserError, nearest
from kd.types import Outputs

INPUT_SUFFIX = ":in"


class Taps:
    """Records the tapped tensors of one net's forward pass.

    Any `nn.Module` whose `forward` returns logits can be tapped: forward hooks read the tensors, so
    the net needs no change. The tensors keep their gradients.

    Args:
        net: the net; its `forward` returns logits [B, K].
        tap_paths: canonical name -> module path. A path ending in `:in` records the module's first
            input instead of its output (`fc:in` is the pooled embedding in front of `fc`).
        wanted: the canonical names to record; the others cost nothing.

    Attributes:
        head: the module that turns the embedding into logits, if `embedding` is a module's input.

    Raises:
        UserError: a wanted name or its module does not exist; names the nearest that do.

    Example:
        >>> import kd
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> taps = kd.Taps(net, {"stage1": "1", "embedding": "3:in"}, ["stage1", "embedding"])
        >>> outputs = taps.outputs(torch.zeros(2, 1, 8, 8))
        >>> outputs.logits.shape
        torch.Size([2, 10])
        >>> {name: list(tensor.shape) for name, tensor in outputs.taps.items()}
        {'stage1': [2, 4, 6, 6], 'embedding': [2, 144]}
    """

    def __init__(self, net: nn.Module, tap_paths: Mapping[str, str], wanted: Iterable[str]) -> None:
        self.net, self.tap_paths = net, tap_paths
        self.head = _head(net, tap_paths)
        self.wanted = tuple(dict.fromkeys(wanted))
        self._store: dict[str, Tensor] = {}
        self._handles: dict[str, RemovableHandle] = {}
        self._versions: dict[str, int] | None = None  # tensor versions at the hook, while probing
        self._copied: set[str] = set()
        for name in self.wanted:
            self._hook(name, _place(name, tap_paths))

    def keep(self, wanted: Iterable[str]) -> None:
        """Record only these of the wanted taps from now on."""
        kept = set(wanted)
        self.wanted = tuple(name for name in self.wanted if name in kept)
        for name in self._handles.keys() - kept:
            self._handles.pop(name).remove()

    def _hook(self, name: str, path: str) -> None:
        module = _module(self.net, path.removesuffix(INPUT_SUFFIX), name)
        # partial, not a closure: closures break pickling the net.
        if path.endswith(INPUT_SUFFIX):
            handle = module.register_forward_pre_hook(partial(self._record_input, name))
        else:
            handle = module.register_forward_hook(partial(self._record_output, name))
        self._handles[name] = handle

    def _record_input(self, name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._record(name, inputs[0])

    def _record_output(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._record(name, output)

    def _record(self, name: str, tensor: Tensor) -> None:
        if self._versions is not None:
            self._versions[name] = tensor_version(tensor)
        self._store[name] = tensor.clone() if name in self._copied else tensor

    def outputs(self, images: Tensor) -> Outputs:
        """Run the net on images [B, C, H, W] and return its logits and taps; keep nothing."""
        logits = self.net(images)
        if unseen := set(self.wanted) - self._store.keys():
            raise UserError(f"taps {sorted(unseen)} name modules that a forward pass does not run")
        taps = {name: self._store[name] for name in self.wanted}
        self._store.clear()
        return Outputs(logits, taps)

    @torch.no_grad()
    def probe(self, images: Tensor) -> Outputs:
        """Outputs in eval mode, leaving no mark on the net.

        Call it once before training: a tap whose tensor a later in-place operation overwrites is
        found here, and recorded as a copy from then on.
        """
        was_training = self.net.training
        self.net.eval()
        self._versions = {}
        taps = self.outputs(images).taps
        self._copied = {name for name in taps if tensor_version(taps[name]) != self._versions[name]}
        self._versions = None
        outputs = self.outputs(images)
        self.net.train(was_training)
        return outputs


def _head(net: nn.Module, tap_paths: Mapping[str, str]) -> nn.Module | None:
    place = tap_paths.get("embedding", "")
    if not place.endswith(INPUT_SUFFIX):
        return None
    return _module(net, place.removesuffix(INPUT_SUFFIX), "embedding")


def _place(name: str, tap_paths: Mapping[str, str]) -> str:
    if name not in tap_paths:
        raise UserError(f"no tap {name!r} in this net; {nearest(name, tap_paths)}")
    return tap_paths[name]


def _module(net: nn.Module, path: str, name: str) -> nn.Module:
    try:
        return net.get_submodule(path)
    except AttributeError:
        modules = [path for path, _ in net.named_modules() if path]
        raise UserError(
            f"tap {name!r} names the module {path!r}, which {type(net).__name__} does not have; "
            f"{nearest(path, modules)}"
        ) from None
