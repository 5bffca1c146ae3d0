"""Values and gradients of every family: activations, precision, compilation, initialisation."""

from collections.abc import Iterator

import pytest
import torch
from model_configs import FAMILIES, OWN, build, taps_of
from torch import nn


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "mobilenet_v2"])
def test_stage_taps_are_after_the_activation(name: str) -> None:
    """Taps are non-negative, except in MobileNetV2, whose bottlenecks are linear."""
    _, taps = taps_of(name, build(name, width=0.25), torch.randn(2, 3, 32, 32))
    for tap, tensor in taps.items():
        assert (tensor >= 0).all(), tap
        assert (tensor > 0).any(), tap


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_parameter(name: str) -> None:
    net = build(name, width=0.25).eval()  # without dropout
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize("name", FAMILIES)
def test_eval_output_does_not_depend_on_the_batch(name: str) -> None:
    net = build(name, width=0.25)
    images = torch.randn(4, 3, 32, 32)
    net(images)  # changes the running statistics from (0, 1)
    net.eval()
    together = net(images)
    alone = torch.cat([net(image[None]) for image in images])
    scale = together.abs().max().item()
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_last_and_bfloat16_agree_with_float32(name: str) -> None:
    net = build(name, width=0.25)
    images = torch.randn(8, 3, 32, 32)
    for _ in range(3):
        net(images)
    net.eval()
    plain = net(images)
    net = net.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    scale = plain.abs().max().item()
    torch.testing.assert_close(net(images), plain, rtol=1e-4, atol=1e-5 * scale)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(images)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1 * scale)


@pytest.mark.parametrize(
    "name",
    [n if n in ("resnet8", "vgg8") else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES],
)
def test_compiles_without_a_graph_break(name: str) -> None:
    net = build(name, width=0.25).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images))


@pytest.mark.parametrize("name", OWN)
def test_activations_are_out_of_place(name: str) -> None:
    with torch.device("meta"):
        assert not any(getattr(m, "inplace", False) for m in build(name).modules())


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "densenet121", "mobilenet_v2"])
def test_convolutions_are_initialised_as_he_et_al(name: str) -> None:
    for conv in (m for m in build(name).modules() if isinstance(m, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2 / conv.groups
        if conv.weight.numel() > 2000:
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
