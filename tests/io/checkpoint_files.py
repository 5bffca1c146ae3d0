"""Checkpoints as people have them, written by hand."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


def small_net(classes: int = 10, seed: int | None = None) -> nn.Sequential:
    """Convolution, batch norm and classifier after one forward pass in training mode."""
    if seed is not None:
        torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )  # fmt: skip
    with torch.no_grad():
        net(torch.randn(8, 1, 8, 8))
    return net


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + key: value for key, value in weights.items()}


def without_counters(weights: Weights) -> Weights:
    return {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


class Basic(nn.Module):
    """The basic block of the public CIFAR ResNets, by the names that they share."""

    def __init__(self, inner: int, outer: int, stride: int, projection: str | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.inner, self.outer, self.stride, self.projection = inner, outer, stride, projection
        if projection is not None and (stride > 1 or inner != outer):
            convolution = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.add_module(projection, nn.Sequential(convolution, nn.BatchNorm2d(outer)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.inner == self.outer:
            return torch.relu(out + x)
        if self.projection is not None:
            return torch.relu(out + self.get_submodule(self.projection)(x))
        pad = (self.outer - self.inner) // 2
        return torch.relu(out + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad)))


class PublicResNet(nn.Module):
    """ResNet-20 for CIFAR with the module names of public repositories.

    Args:
        head: name of the classifier.
        projection: name of the shortcut convolutions; None: the shortcut pads with zeros.
        classes: K.
    """

    def __init__(self, head: str, projection: str | None, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inner = 16
        for number, outer in enumerate((16, 32, 64), 1):
            stage = nn.Sequential()
            for index in range(3):
                stride = 2 if number > 1 and index == 0 else 1
                stage.append(Basic(inner, outer, stride, projection))
                inner = outer
            self.add_module(f"layer{number}", stage)
        self.head = head
        self.add_module(head, nn.Linear(64, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return self.get_submodule(self.head)(x.mean((2, 3)))


# Layouts of https://github.com/akamaster/pytorch_resnet_cifar10,
# https://github.com/chenyaofo/pytorch-cifar-models and https://github.com/HobbitLong/RepDistiller;
# files of the first are of torch 0.3, before batch norm had counters.
LAYOUTS: dict[str, tuple[tuple[str, str | None], Callable[[Weights], Any]]] = {
    "akamaster": (
        ("linear", None),
        lambda w: {"state_dict": prefixed(without_counters(w), "module."), "best_prec1": 91.7},
    ),
    "akamaster, projections": (
        ("linear", "shortcut"),
        lambda w: {"state_dict": prefixed(without_counters(w), "module."), "best_prec1": 91.7},
    ),
    "chenyaofo": (("fc", "downsample"), lambda w: w),
    "RepDistiller": (("fc", "downsample"), lambda w: {"epoch": 240, "model": w, "best_acc": 69.1}),
    "kuangliu": (
        ("linear", "shortcut"),
        lambda w: {"net": prefixed(w, "module."), "acc": 93.0, "epoch": 199},
    ),
}


class Touch:
    """Creates a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def plain_pickle(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path
