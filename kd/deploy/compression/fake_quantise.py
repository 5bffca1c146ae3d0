"""Quantization-aware training: a net that computes as if its weights and inputs were integers.

Convolutions and linear layers round their weights to signed integers, with one scale for each
output channel, and their inputs to unsigned integers, with one scale and zero point for each layer;
gradients pass the rounding unchanged (straight-through). The scheme is that of Jacob et al. 2018,
https://arxiv.org/abs/1712.05877, with the scale per channel of Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342, and equals that of onnxruntime's static quantizer:

    weight: s_c = max|w_c| / 127,           q = round(w / s_c)
    input:  s = (max − min) / 255,          q = round(x / s) + z,   z = round(−min / s)

Batch norm is not folded: folding multiplies a channel's weights and its scale alike, so that the
integers stay the same.

Why own code: torchao trains image nets quantization-aware only in its graph mode (PT2E), whose
exported graph has no module paths, so that a method's taps cannot attach; its eager mode
(`torchao.quantization.qat`, 0.18) takes linear layers and embeddings, and no convolutions. Eager
mode of `torch.ao.quantization` is deprecated (https://github.com/pytorch/ao/issues/2259). Layers
keep their place, their parameters and their keys in the state dict, which a parametrization of the
weight (`torch.nn.utils.parametrize`) would rename in checkpoints.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kd.errors import UserError

MOMENTUM = 0.01  # of the moving average of a range, as in torch and torchao
_TINY = torch.finfo(torch.float32).tiny


def weight_scales(weight: Tensor, bits: int = 8) -> Tensor:
    """Return the scale of each output channel [C'] of a weight [C', …], symmetric about zero.

    Example:
        >>> weight_scales(torch.tensor([[1.27, -0.5], [0.0, -2.54]]))
        tensor([0.0100, 0.0200])
    """
    largest = weight.detach().float().flatten(1).abs().amax(1)
    return (largest / (2 ** (bits - 1) - 1)).clamp_min(_TINY)


def fake_quantise_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """Round a weight [C', …] to the multiples of its channels' scales; the gradient is that of 1.

    Example:
        >>> fake_quantise_weight(torch.tensor([[1.27, -0.504]]))
        tensor([[ 1.2700, -0.5000]])
    """
    most = 2 ** (bits - 1) - 1
    scales = weight_scales(weight, bits)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scales, zeros, 0, -most, most)


class InputRange(nn.Module):
    """Rounding of a layer's input to 2^bits values between the moving averages of its extremes.

    The range always contains zero, which is then represented exactly (padding, ReLU). It is no part
    of the state dict: see `ranges`.

    Args:
        bits: of the integers.

    Attributes:
        observing: the range follows the batches of training.
        enabled: the input is rounded; it is left alone until a batch of training has been seen.
        seen: a batch of training has been seen.
    """

    minimum: Tensor
    maximum: Tensor

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits, self.observing, self.enabled, self.seen = bits, True, True, False
        for name in ("minimum", "maximum"):
            self.register_buffer(name, torch.zeros(()), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        if self.enabled and self.training and self.observing:
            self._observe(values)
        if not (self.enabled and self.seen):
            return values
        most = 2**self.bits - 1
        scale = ((self.maximum - self.minimum) / most).clamp_min(_TINY)
        zero = torch.round(-self.minimum / scale).to(torch.int32)
        rounded = torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, most)
        return rounded.to(values.dtype)

    @torch.no_grad()
    def _observe(self, values: Tensor) -> None:
        low, high = (x.float() for x in torch.aminmax(values.detach()))
        rate = MOMENTUM if self.seen else 1.0
        self.minimum.lerp_(low.clamp_max(0), rate)
        self.maximum.lerp_(high.clamp_min(0), rate)
        self.seen = True


class FakeQuantised(nn.Module):
    """What the quantised layers have in common; a layer becomes one by `fake_quantise`.

    Attributes:
        bits: of weights and inputs.
        input_range: rounds the input.
        saves_rounded: the state dict has the rounded weights; in training it has those behind them.
        saving: handle of the hook that puts them there.
    """

    weight: Tensor
    bits: int
    input_range: InputRange
    saves_rounded: bool
    saving: RemovableHandle

    def rounded_weight(self) -> Tensor:
        return fake_quantise_weight(self.weight, self.bits)


class FakeQuantisedConv2d(FakeQuantised, nn.Conv2d):
    """A convolution with rounded weights and input."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(self.input_range(input), self.rounded_weight(), self.bias)


class FakeQuantisedLinear(FakeQuantised, nn.Linear):
    """A linear layer with rounded weights and input."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(self.input_range(input), self.rounded_weight(), self.bias)


_QUANTISED = {nn.Conv2d: FakeQuantisedConv2d, nn.Linear: FakeQuantisedLinear}
_PLAIN: dict[type, type[nn.Module]] = {quantised: plain for plain, quantised in _QUANTISED.items()}


def fake_quantise(net: nn.Module, bits: int = 8) -> nn.Module:
    """Make all convolutions and linear layers of a net quantised ones, in place.

    Subclasses of both are left alone, since they compute something else.

    Args:
        net: any module; its parameters, module paths and state dict stay.
        bits: of weights and inputs.

    Returns:
        The same net.

    Raises:
        UserError: the net has no such layer.

    Example:
        >>> net = fake_quantise(nn.Sequential(nn.Linear(2, 1, bias=False)))
        >>> type(net[0]).__name__, list(net.state_dict())
        ('FakeQuantisedLinear', ['0.weight'])
    """
    found = [module for module in net.modules() if type(module) in _QUANTISED]
    if not found:
        raise UserError(
            f"quantise=int8: {type(net).__name__} has no convolution or linear layer to quantise; "
            "choose quantise=none"
        )
    for module in found:
        _become(module, _QUANTISED[cast(Any, type(module))])
        layer = cast(FakeQuantised, module)
        layer.bits, layer.saves_rounded, layer.input_range = bits, False, InputRange(bits)
        layer.saving = layer.register_state_dict_post_hook(_save_rounded)
        layer.input_range.to(layer.weight.device).train(layer.training)
    return net


def finish(net: nn.Module) -> None:
    """End quantization-aware training: inputs are no longer rounded, weights are saved rounded.

    The saved weights compute the same as those of the last step, without any quantised layer.
    """
    for _, layer in quantised_layers(net):
        layer.input_range.enabled, layer.saves_rounded = False, True


@torch.no_grad()
def plain_layers(net: nn.Module) -> nn.Module:
    """Make the quantised layers of a net plain ones again, with the rounded weights, in place."""
    for _, layer in list(quantised_layers(net)):
        layer.weight.copy_(layer.rounded_weight())
        layer.saving.remove()
        del layer.input_range, layer.bits, layer.saves_rounded, layer.saving
        _become(layer, _PLAIN[type(layer)])
    return net


def quantised_layers(net: nn.Module) -> Iterator[tuple[str, FakeQuantised]]:
    """Yield the quantised layers of a net by module path."""
    for path, module in net.named_modules():
        if isinstance(module, FakeQuantised):
            yield path, module


def ranges(net: nn.Module) -> dict[str, Tensor]:
    """Return the range (min, max) [2] of the input of every layer that has seen a batch."""
    layers = {path: layer.input_range for path, layer in quantised_layers(net)}
    return {
        path: torch.stack([each.minimum, each.maximum]).cpu()
        for path, each in layers.items()
        if each.seen
    }


def restore_ranges(net: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Give the layers the ranges that `ranges` has returned.

    Raises:
        KeyError: the net has no quantised layer of a path.
    """
    layers = dict(quantised_layers(net))
    for path, extremes in saved.items():
        own = layers[path].input_range
        own.minimum.copy_(extremes[0])
        own.maximum.copy_(extremes[1])
        own.seen = True


def _save_rounded(layer: FakeQuantised, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    if layer.saves_rounded:
        state[f"{prefix}weight"] = layer.rounded_weight().detach()


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Change the class of a module, as `torch.nn.utils.parametrize` does: hooks and taps stay."""
    cast(Any, module).__class__ = kind
