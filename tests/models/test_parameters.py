"""Parameter counts against the configs, the papers and the distillation literature."""

import re
from typing import Any

import pytest
import torch
from model_configs import CONF, NAMES, OWN, WRAPPERS, build, config, parameters, weights


@pytest.mark.parametrize("name", NAMES)
def test_config_has_its_name_and_parameter_count(name: str) -> None:
    first, command, *_ = (CONF / "model" / f"{name}.yaml").read_text().splitlines()
    assert command.startswith(f"# python -m kd.train student={name}")
    assert config(name).name == (f"{name}_resnet18" if name in WRAPPERS else name)
    match = re.search(r"([\d ]+) parameters at (\d+)x(\d+)x\d+, 10 classes$", first)
    assert match, first
    with torch.device("meta"):
        net = build(name, in_channels=int(match[2]), size=int(match[3]))
    assert parameters(net) == int(match[1].replace(" ", ""))


TOTALS = [
    ("deepnn", 3, 32, 1_186_986),
    ("lightnn", 3, 32, 267_738),
    ("mlp1200", 1, 28, 2_395_210),
    ("mlp800", 1, 28, 1_276_810),
]


@pytest.mark.parametrize(("name", "channels", "size", "count"), TOTALS)
def test_parameters_equal_the_published_count(
    name: str, channels: int, size: int, count: int
) -> None:
    with torch.device("meta"):
        assert parameters(build(name, channels, size)) == count


WEIGHTS = [
    ("vgg16", {}, 15_239_872),
    ("vgg16_half", {}, 3_811_680),
    ("resnet18", {}, 11_164_352),
    ("resnet18_half", {}, 2_792_800),
    ("densenet121", {"stem": "imagenet"}, 6_880_448),
    ("densenet121_half", {"stem": "imagenet"}, 1_725_024),
]


@pytest.mark.parametrize(("name", "options", "count"), WEIGHTS)
def test_weights_of_convolutions_and_linear_layers_equal_the_published_count(
    name: str, options: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        assert weights(build(name, **options)) == count


# Millions of parameters at 3x32x32 and 100 classes, rounded as in the distillation literature.
MILLIONS = {
    "resnet8": 0.08,
    "resnet14": 0.18,
    "resnet20": 0.28,
    "resnet32": 0.47,
    "resnet44": 0.67,
    "resnet56": 0.86,
    "resnet110": 1.74,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "wrn_16_1": 0.18,
    "wrn_16_2": 0.70,
    "wrn_40_1": 0.57,
    "wrn_40_2": 2.26,
}


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_parameters_agree_with_the_distillation_literature(name: str, millions: float) -> None:
    with torch.device("meta"):
        assert round(parameters(build(name, classes=100)) / 1e6, 2) == millions


@pytest.mark.parametrize("name", OWN)
def test_width_scales_every_layer(name: str) -> None:
    """Every layer has fewer channels, except that the classifier keeps its classes."""
    with torch.device("meta"):
        full, half = (build(name, width=width) for width in (1.0, 0.5))
    assert parameters(half) < 0.55 * parameters(full)
    pairs = zip(full.parameters(), half.parameters(), strict=True)
    *inner, last_weight, last_bias = pairs
    assert all(f.shape[0] > h.shape[0] for f, h in inner)
    assert last_weight[0].shape[1] > last_weight[1].shape[1]
    assert last_bias[0].shape == last_bias[1].shape
