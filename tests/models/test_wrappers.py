"""Taps in the comment of the wrapped libraries' configs."""

import re

import pytest
from model_configs import CONF, WRAPPERS, build
from omegaconf import OmegaConf


@pytest.mark.parametrize("name", WRAPPERS)
def test_taps_in_the_comment_exist(name: str) -> None:
    match = re.search(r"'student\.taps=(\{.*\})'", (CONF / "model/torchvision.yaml").read_text())
    assert match
    net = build(name)
    for path in OmegaConf.create(match[1]).values():
        net.get_submodule(path.removesuffix(":in"))
