"""Every net of conf/model: sizes, taps, counts, gradients. No training."""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from kd.errors import UserError
from kd.models.densenet import densenet
from kd.models.resnet import resnet
from kd.models.resnet_cifar import resnet_cifar
from kd.models.shufflenet_v1 import shufflenet_v1
from kd.models.shufflenet_v2 import shufflenet_v2
from kd.models.sizing import scaled
from kd.models.torchvision_net import torchvision_net
from kd.models.tutorial_cnn import deepnn, lightnn
from kd.models.vgg import vgg
from kd.models.wide_resnet import wide_resnet

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
WRAPPERS = ("timm", "torchvision")
OWN = [name for name in NAMES if name not in WRAPPERS]
MLPS = ("mlp800", "mlp1200")
TOO_SMALL_AT_8 = {"vgg16": 32, "vgg16_half": 32}  # net: the smallest size that works

# One net a family, to keep the slower tests short.
FAMILIES = [
    *(
        "deepnn",
        "lightnn",
        "mlp1200",
        "resnet8",
        "wrn_16_2",
        "vgg8",
        "vgg16",
        "resnet18",
        "resnet50",
    ),
    *("densenet121", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"),
]


@cache
def config(name: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(config_name=f"model/{name}").model


def build(
    name: str, in_channels: int = 3, size: int = 32, classes: int = 10, **options: object
) -> nn.Module:
    facts = {"in_channels": in_channels, "image_size": size, "num_classes": classes}
    try:
        return instantiate(config(name).net, _convert_="all", **facts, **options)
    except InstantiationException as error:
        raise (error.__cause__ or error) from None


def taps_of(name: str, net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the net and record its taps with hooks written here, not kd.taps."""
    seen: dict[str, Tensor] = {}

    def hook(tap: str, path: str) -> None:
        module = net.get_submodule(path.removesuffix(":in"))
        if path.endswith(":in"):
            module.register_forward_pre_hook(lambda _m, i: seen.__setitem__(tap, i[0]))
        else:
            module.register_forward_hook(lambda _m, _i, o: seen.__setitem__(tap, o))

    for tap, path in config(name).taps.items():
        hook(tap, path)
    return net(images), seen


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def weights(net: nn.Module) -> int:
    layers = (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return sum(m.weight.numel() for m in layers)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_yaml_names_itself_and_counts_its_parameters(name: str) -> None:
    first, command, *_ = (CONF / "model" / f"{name}.yaml").read_text().splitlines()
    assert command.startswith(f"# python -m kd.train student={name}")
    assert config(name).name == (f"{name}_resnet18" if name in WRAPPERS else name)
    match = re.search(r"([\d ]+) parameters at (\d+)x(\d+)x\d+, 10 classes$", first)
    assert match, first
    with torch.device("meta"):
        net = build(name, in_channels=int(match[2]), size=int(match[3]))
    assert parameters(net) == int(match[1].replace(" ", ""))


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_taps_have_their_shapes(name: str, classes: int) -> None:
    with torch.device("meta"):
        net = build(name, classes=classes)
        logits, taps = taps_of(name, net, torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, classes)
    assert taps.keys() == config(name).taps.keys()
    if name in WRAPPERS:
        return
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


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "mobilenet_v2"])
def test_stage_taps_are_activated(name: str) -> None:
    """Non-negative, as nothing but ReLU comes last (MobileNetV2's bottlenecks are linear)."""
    _, taps = taps_of(name, build(name, width=0.25), torch.randn(2, 3, 32, 32))
    for tap, tensor in taps.items():
        assert (tensor >= 0).all(), tap
        assert (tensor > 0).any(), tap


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TOO_SMALL_AT_8])
def test_takes_grey_digits(name: str) -> None:
    with torch.device("meta"):
        net = build(name, in_channels=1, size=8)
        logits, taps = taps_of(name, net, torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, 10)
    assert all(tensor.numel() > 0 for tensor in taps.values())


@pytest.mark.parametrize(("name", "smallest"), TOO_SMALL_AT_8.items())
def test_refuses_grey_digits_and_names_sizes(name: str, smallest: int) -> None:
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
def test_smallest_size_works_and_one_less_does_not(make, options, smallest) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        logits = make(3, smallest, 7, width=0.25, **options)(torch.zeros(2, 3, smallest, smallest))
        assert logits.shape == (2, 7)
        with pytest.raises(UserError, match=f"{smallest - 1}x{smallest - 1}.*works is {smallest}$"):
            make(3, smallest - 1, 7, width=0.25, **options)


UNEVEN = [(n, size) for n in FAMILIES for size in (28, 33) if n != "vgg16" or size > 32]


@pytest.mark.parametrize(("name", "size"), UNEVEN)
def test_takes_sizes_that_do_not_halve_evenly(name: str, size: int) -> None:
    with torch.device("meta"):
        assert build(name, size=size)(torch.zeros(2, 3, size, size)).shape == (2, 10)


TOTALS = [
    ("deepnn", 3, 32, 1_186_986),
    ("lightnn", 3, 32, 267_738),
    ("mlp1200", 1, 28, 2_395_210),
    ("mlp800", 1, 28, 1_276_810),
]


@pytest.mark.parametrize(("name", "channels", "size", "count"), TOTALS)
def test_total_parameters_are_the_published(
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
def test_weights_of_convolutions_and_linear_layers_are_the_published(
    name: str, options: dict[str, str], count: int
) -> None:
    with torch.device("meta"):
        assert weights(build(name, **options)) == count


# Millions of parameters at 3x32x32 and 100 classes, as the distillation literature rounds them.
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
    """Every layer narrows but the classifier, which only reads less."""
    with torch.device("meta"):
        full, half = (build(name, width=width) for width in (1.0, 0.5))
    assert parameters(half) < 0.55 * parameters(full)
    pairs = zip(full.parameters(), half.parameters(), strict=True)
    *inner, last_weight, last_bias = pairs
    assert all(f.shape[0] > h.shape[0] for f, h in inner)
    assert last_weight[0].shape[1] > last_weight[1].shape[1]
    assert last_bias[0].shape == last_bias[1].shape


@pytest.mark.parametrize("width", [0.1, 0.3, 0.75, 1.37, 2.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_any_width_builds(name: str, width: float) -> None:
    with torch.device("meta"):
        assert build(name, width=width)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


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
    net(images)  # moves the running statistics away from (0, 1)
    net.eval()
    together = net(images)
    alone = torch.cat([net(image[None]) for image in images])
    scale = together.abs().max().item()
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_last_and_bfloat16_agree_with_plain_float32(name: str) -> None:
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
    [pytest.param(n, marks=pytest.mark.slow) if n == "densenet121" else n for n in FAMILIES],
)
def test_compiles_without_a_graph_break(name: str) -> None:
    net = build(name, width=0.25).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images))


@pytest.mark.parametrize("name", OWN)
def test_no_activation_works_in_place(name: str) -> None:
    with torch.device("meta"):
        assert not any(getattr(m, "inplace", False) for m in build(name).modules())


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "densenet121", "mobilenet_v2"])
def test_convolutions_start_as_he_et_al(name: str) -> None:
    for conv in (m for m in build(name).modules() if isinstance(m, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2 / conv.groups
        if conv.weight.numel() > 2000:
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_densenet_stem_halves_twice_when_asked() -> None:
    with torch.device("meta"):
        net = build("densenet121", stem="imagenet")
        _, taps = taps_of("densenet121", net, torch.zeros(2, 3, 32, 32))
    assert [taps[t].shape[-1] for t in ("stem", "stage1", "stage4")] == [16, 8, 1]


MISTAKES = [
    ("resnet20", {"depth": 21}, r"depth must be 6n\+2, got 21"),
    ("resnet20", {"channels": [16, 32]}, "stem and three stages"),
    ("wrn_16_2", {"depth": 18}, r"depth must be 6n\+4, got 18"),
    ("wrn_16_2", {"widen": 0}, "widen must be"),
    ("resnet18", {"depth": 19}, r"depth must be one of \[18, 34, 50\], got 19"),
    ("vgg8", {"depth": 9}, r"depth must be one of \[8, 11, 13, 16\], got 9"),
    ("vgg8", {"pools": 6}, "pools must be 0 to 5, got 6"),
    ("densenet121", {"depth": 100}, "depth must be one of"),
    ("densenet121", {"stem": "tiny"}, r"stem must be one of \['cifar', 'imagenet'\], got 'tiny'"),
    ("shufflenet_v1", {"groups": 5}, "groups must be one of"),
    ("shufflenet_v2", {"channels": [24]}, "channels must be five"),
    ("mlp800", {"hidden": []}, "hidden must name"),
]


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES)
def test_refuses_what_no_net_can_be(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **options)


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_refuses_a_width_that_is_not_positive(width: float) -> None:
    with pytest.raises(ValueError, match="width must be > 0, got"):
        scaled(16, width)


def test_widths_round_half_up_to_multiples_and_never_to_zero() -> None:
    assert scaled(25, 0.5) == 13
    assert scaled(16, 0.01) == 1
    assert scaled(20, 1.0, 8) == 24
    assert scaled(240, 0.01, 12) == 12


def test_torchvision_takes_any_classifier() -> None:
    net = torchvision_net(1, 32, 7, arch="squeezenet1_1")  # its classifier is a convolution
    assert net.train()(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    net = torchvision_net(4, 32, 7, arch="googlenet", dropout=0.0)  # plain logits in training
    assert net.train()(torch.randn(2, 4, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_show_taps_that_exist(name: str) -> None:
    text = (CONF / "model" / f"{name}.yaml").read_text()
    match = re.search(r"\+student\.taps=(\{.*\})", text)
    assert match
    net = build(name)
    for path in OmegaConf.create(match[1]).values():
        net.get_submodule(path.removesuffix(":in"))


def test_torchvision_tells_what_is_wrong() -> None:
    with pytest.raises(UserError, match="'resnet81'; did you mean 'resnet18'"):
        torchvision_net(3, 32, 10, arch="resnet81")
    with pytest.raises(UserError, match=r"cannot take 32x32 images.*size that works is 64"):
        torchvision_net(3, 32, 10, arch="alexnet")
    with pytest.raises(UserError, match=r"at 8x8 with .*image_size.*: Input shape indivisible"):
        torchvision_net(3, 8, 10, arch="vit_b_16")
    with pytest.raises(UserError, match="has no weights 'IMAGENET'; did you mean 'IMAGENET1K_V1'"):
        torchvision_net(3, 32, 10, arch="resnet18", weights="IMAGENET")
    with pytest.raises(UserError, match="unexpected keyword argument 'width'"):
        torchvision_net(3, 32, 10, arch="resnet18", width=0.5)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stand in for the download of resnet18's weights: 3 channels, 1000 classes, all sevens."""
    from torchvision import models

    net = models.resnet18()
    state = {k: torch.full_like(v, 7) for k, v in net.state_dict().items()}
    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state)
    return state


def test_torchvision_loads_published_weights_where_they_fit(published: dict[str, Tensor]) -> None:
    state = torchvision_net(1, 32, 10, arch="resnet18", weights="DEFAULT").state_dict()
    fresh = {k for k, v in state.items() if not (v == 7).all()}
    assert fresh == {"conv1.weight", "fc.weight", "fc.bias"}


def test_torchvision_says_how_to_go_on_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(UserError, match=r"no route to host.*weights=null.*resnet18-f37072fd\.pth"):
        torchvision_net(3, 32, 10, arch="resnet18", weights="IMAGENET1K_V1")


def test_timm_passes_what_the_net_takes() -> None:
    pytest.importorskip("timm")
    net = build("timm", 1, 8, 7, arch="vit_tiny_patch16_224", patch_size=4, depth=1)
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    net = build("timm", 1, 32, 7, arch="resnet10t")  # takes no img_size
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_timm_tells_what_is_wrong() -> None:
    pytest.importorskip("timm")
    from kd.models.timm_net import timm_net

    with pytest.raises(UserError, match=r"'resnet81'; did you mean one of .*resnet18"):
        timm_net(3, 32, 10, arch="resnet81")
    with pytest.raises(UserError, match="unexpected keyword argument 'width'"):
        timm_net(3, 32, 10, arch="resnet18", width=0.5)
    with pytest.raises(UserError, match=r"'vit_tiny_patch16_224'.*8x8"):
        timm_net(3, 8, 10, arch="vit_tiny_patch16_224", depth=1)


def test_missing_timm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from kd.models.timm_net import timm_net

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=re.escape("pip install 'kd[timm]'")):
        timm_net(3, 32, 10, arch="resnet18")
