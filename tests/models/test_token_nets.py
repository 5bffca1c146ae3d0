"""Nets on patches: tokens at the stages, patches that fit the images, DeiT's two classifiers."""

import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from model_configs import TOKENS, build, parameters, taps_of
from support import softmax

from kd.errors import UserError
from kd.models.deit import fused
from kd.models.timm_parts import patch_side

PREFIX = {"vit_tiny_cifar": 1, "mixer_tiny_cifar": 0, "deit_tiny_cifar": 2}
TINY = {"dim": 12, "depth": 5}


@pytest.mark.parametrize(("size", "side"), [(32, 8), (8, 4), (28, 7), (33, 11)])
@pytest.mark.parametrize("name", TOKENS)
def test_stages_are_tokens_of_a_square_grid(name: str, size: int, side: int) -> None:
    with torch.device("meta"):
        net = build(name, in_channels=1, size=size, **TINY)
        logits, taps = taps_of(name, net, torch.zeros(2, 1, size, size))
    assert logits.shape == (2, 10)
    assert taps["stem"].shape == (2, side**2, 12)
    for stage in range(1, 5):
        assert taps[f"stage{stage}"].shape == (2, PREFIX[name] + side**2, 12)
    assert taps["tokens"].shape == taps["stage4"].shape
    assert taps["embedding"].shape == (2, 12)
    assert taps["classifier"].shape == (2, 10)


@pytest.mark.parametrize("name", TOKENS)
def test_width_scales_every_block(name: str) -> None:
    with torch.device("meta"):
        full, half = (build(name, width=width) for width in (1.0, 0.5))
        assert build(name, width=0.1)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert parameters(half) < 0.3 * parameters(full)


@pytest.mark.parametrize("name", TOKENS)
def test_gradients_reach_every_parameter_and_images_are_independent(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, 1, 8, **TINY)
    for classifier in [m for n, m in net.named_modules() if n.rpartition(".")[2] == "head"]:
        torch.nn.init.normal_(classifier.weight)  # timm's Mixer starts with zeros
    images = torch.randn(3, 1, 8, 8)
    together = net(images)
    together.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    torch.testing.assert_close(torch.cat([net(image[None]) for image in images]), together)


def test_the_classifiers_of_deit_are_joined_as_in_the_paper() -> None:
    torch.manual_seed(0)
    net = build("deit_tiny_cifar", 1, 8, **TINY)
    logits, taps = taps_of("deit_tiny_cifar", net, torch.randn(3, 1, 8, 8))
    first, second = (taps[k].detach().double().numpy() for k in ("classifier", "distillation"))
    assert np.abs(first - second).max() > 0.01
    expected = (softmax(first) + softmax(second)) / 2
    np.testing.assert_allclose(softmax(logits.detach().numpy()), expected, atol=1e-6)
    of_logits = fused(taps["classifier"], taps["distillation"], "logits").detach().numpy()
    np.testing.assert_allclose(of_logits, (first + second) / 2, atol=1e-6)
    assert torch.equal(net.eval()(torch.ones(1, 1, 8, 8)), net.train()(torch.ones(1, 1, 8, 8)))
    assert fused(torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_tiny_cifar", {"depth": 3}, "depth must be ≥ 4, one block a stage, got 3"),
        ("vit_tiny_cifar", {"dim": 20}, "dim must be a multiple of heads, got 20 and 3"),
        ("vit_tiny_cifar", {"drop_path": 1}, r"drop_path must be in \[0, 1\), got 1"),
        ("deit_tiny_cifar", {"mlp_ratio": -1}, "mlp_ratio must be ≥ 1 / 192, one unit, got -1"),
        ("mixer_tiny_cifar", {"token_ratio": 0}, "token_ratio must be ≥ 1 / 192, one unit, got 0"),
        ("mixer_tiny_cifar", {"patch": 5}, r"patch=5 does not divide images of 32x32; .*\[1, 2, 4"),
        ("deit_tiny_cifar", {"fusion": "sum"}, "fusion must be one of .*, got 'sum'"),
    ],
)
def test_impossible_sizes_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, UserError), match=message):
        build(name, **options)


def test_every_image_has_a_patch() -> None:
    for size in range(1, 70):
        side = patch_side("vit", size)
        assert size % side == 0
        assert size // side >= min(7, size // 2)


def test_missing_timm_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=re.escape("model=vit needs timm") + ".*kd\\[timm\\]"):
        build("vit_tiny_cifar")
