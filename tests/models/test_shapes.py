"""Shapes of logits and taps for every net, image size and width."""

import pytest
import torch
from model_configs import (
    FAMILIES,
    MLPS,
    NAMES,
    TOKENS,
    TOO_SMALL_AT_8,
    WRAPPERS,
    build,
    config,
    taps_of,
)
from torch import nn

from kd.errors import UserError
from kd.models.densenet import densenet
from kd.models.resnet import resnet
from kd.models.resnet_cifar import resnet_cifar
from kd.models.shufflenet_v1 import shufflenet_v1
from kd.models.shufflenet_v2 import shufflenet_v2
from kd.models.tutorial_cnn import deepnn, lightnn
from kd.models.vgg import vgg
from kd.models.wide_resnet import wide_resnet


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_taps_have_their_shapes(name: str, classes: int) -> None:
    with torch.device("meta"):
        net = build(name, classes=classes)
        logits, taps = taps_of(name, net, torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, classes)
    assert taps.keys() == config(name).taps.keys()
    if name in (*WRAPPERS, *TOKENS):
        return  # for tokens see test_token_nets.py
    stages = [taps[tap] for tap in sorted(taps) if tap.startswith("stage")]
    assert len(stages) >= 2
    if name not in MLPS:
        sides = [taps["stem"].shape[-1], *(stage.shape[-1] for stage in stages)]
        assert all(stage.dim() == 4 and stage.shape[2] == stage.shape[3] for stage in stages)
        assert sides == sorted(sides, reverse=True)
        assert sides[-1] < sides[0]
    else:
        assert all(stage.dim() == 2 for stage in stages)
    fc = net.get_submodule("fc")
    assert isinstance(fc, nn.Linear)
    assert taps["embedding"].shape == (2, fc.in_features)


RESOLUTIONS = {
    "resnet20": (32, 16, 8),
    "resnet32x4": (32, 16, 8),
    "wrn_40_2": (32, 16, 8),
    "resnet18": (32, 16, 8, 4),
    "resnet50": (32, 16, 8, 4),
    "densenet121": (32, 16, 8, 4),
    "mobilenet_v2": (32, 16, 8, 4),
    "shufflenet_v1": (16, 8, 4),
    "shufflenet_v2": (16, 8, 4),
    "vgg8": (32, 16, 8, 4, 4),
    "vgg16": (32, 16, 8, 4, 2),
    "deepnn": (16, 8),
    "lightnn": (16, 8),
}


@pytest.mark.parametrize(("name", "sides"), RESOLUTIONS.items())
def test_stages_have_the_documented_resolutions(name: str, sides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        _, taps = taps_of(name, build(name), torch.zeros(2, 3, 32, 32))
    assert tuple(taps[f"stage{i}"].shape[-1] for i in range(1, len(sides) + 1)) == sides


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TOO_SMALL_AT_8])
def test_grey_digits_are_accepted(name: str) -> None:
    with torch.device("meta"):
        net = build(name, in_channels=1, size=8)
        logits, taps = taps_of(name, net, torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, 10)
    assert all(tensor.numel() > 0 for tensor in taps.values())


@pytest.mark.parametrize(("name", "smallest"), TOO_SMALL_AT_8.items())
def test_error_on_small_images_names_the_smallest_size(name: str, smallest: int) -> None:
    with pytest.raises(UserError, match=rf"vgg16.*{smallest} times.*8x8.*works is {smallest}$"):
        build(name, in_channels=1, size=8)
    assert build(name, in_channels=1, size=smallest, width=0.05)


SMALLEST = [
    (deepnn, {}, 4),
    (lightnn, {}, 4),
    (resnet_cifar, {}, 4),
    (wide_resnet, {}, 4),
    (resnet, {}, 8),
    (vgg, {}, 8),
    (vgg, {"pools": 5}, 32),
    (densenet, {}, 8),
    (densenet, {"stem": "imagenet"}, 32),
    (shufflenet_v1, {}, 8),
    (shufflenet_v2, {}, 8),
]


@pytest.mark.parametrize(("make", "options", "smallest"), SMALLEST)
def test_smallest_size_works_and_one_less_does_not(make, options, smallest) -> None:
    with torch.device("meta"):
        logits = make(3, smallest, 7, width=0.25, **options)(torch.zeros(2, 3, smallest, smallest))
        assert logits.shape == (2, 7)
        with pytest.raises(UserError, match=f"{smallest - 1}x{smallest - 1}.*works is {smallest}$"):
            make(3, smallest - 1, 7, width=0.25, **options)


UNEVEN = [(n, size) for n in FAMILIES for size in (28, 33) if n != "vgg16" or size > 32]


@pytest.mark.parametrize(("name", "size"), UNEVEN)
def test_odd_image_sizes_are_accepted(name: str, size: int) -> None:
    with torch.device("meta"):
        assert build(name, size=size)(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize("width", [0.1, 0.3, 0.75, 1.37, 2.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_any_width_builds(name: str, width: float) -> None:
    with torch.device("meta"):
        assert build(name, width=width)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_imagenet_stem_of_densenet_down_samples_4_times() -> None:
    with torch.device("meta"):
        net = build("densenet121", stem="imagenet")
        _, taps = taps_of("densenet121", net, torch.zeros(2, 3, 32, 32))
    assert [taps[t].shape[-1] for t in ("stem", "stage1", "stage4")] == [16, 8, 1]
