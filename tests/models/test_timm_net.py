"""Nets of timm, and its absence."""

import re
import sys

import pytest
import torch
from model_configs import build

from kd.errors import UserError


def test_image_size_is_passed_to_nets_built_for_one() -> None:
    pytest.importorskip("timm")
    net = build("timm", 1, 8, 7, arch="vit_tiny_patch16_224", patch_size=4, depth=1)
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    net = build("timm", 1, 32, 7, arch="resnet10t")  # takes no img_size
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_mistakes_are_named() -> None:
    pytest.importorskip("timm")
    from kd.models.timm_net import timm_net

    with pytest.raises(UserError, match=r"'resnet81'; did you mean one of .*resnet18"):
        timm_net(3, 32, 10, arch="resnet81")
    with pytest.raises(UserError, match="unexpected keyword argument 'width'"):
        timm_net(3, 32, 10, arch="resnet18", width=0.5)
    with pytest.raises(UserError, match=r"'vit_tiny_patch16_224'.*8x8"):
        timm_net(3, 8, 10, arch="vit_tiny_patch16_224", depth=1)


def test_missing_timm_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from kd.models.timm_net import timm_net

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=re.escape("pip install 'kd[timm]'")):
        timm_net(3, 32, 10, arch="resnet18")
