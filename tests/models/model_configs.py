"""Nets of conf/model for the tests: built from their config, with taps recorded by own hooks."""

import re
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

CONF = Path(__file__).parents[2] / "conf"
TEXT = {"bert_mini", "bilstm", "distilbert", "hf", "text_cnn"}
TEXT |= {"transformer_mini", "transformer_mini_2"}
_ALL = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DETECTORS = [n for n in _ALL if re.match("tiny_detector|fcos|retinanet|ssdlite|faster_rcnn", n)]
NAMES = [name for name in _ALL if name not in (*TEXT, *DETECTORS)]
WRAPPERS = ("timm", "torchvision")
TOKENS = ("deit_tiny_cifar", "mixer_tiny_cifar", "vit_tiny_cifar")  # stages are tokens, not maps
OWN = [name for name in NAMES if name not in (*WRAPPERS, *TOKENS)]
MLPS = ("mlp800", "mlp1200")
TOO_SMALL_AT_8 = {"vgg16": 32, "vgg16_half": 32}  # net: the smallest size that works

# One net a family, to keep the slower tests short.
FAMILIES = [
    *("deepnn", "lightnn", "mlp1200", "resnet8", "wrn_16_2", "vgg8", "vgg16", "resnet18"),
    *("resnet50", "densenet121", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"),
]


@cache
def config(name: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(config_name=f"model/{name}").model


def build(
    name: str, in_channels: int = 3, size: int = 32, classes: int = 10, **options: object
) -> nn.Module:
    sizes = {"in_channels": in_channels, "image_size": size, "num_classes": classes}
    try:
        return instantiate(config(name).net, _convert_="all", **sizes, **options)
    except InstantiationException as error:
        raise (error.__cause__ or error) from None


def taps_of(name: str, net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the net and record its taps, independently of kd.taps."""
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
