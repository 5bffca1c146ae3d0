"""Taps in the configs of the wrapped libraries."""

import re

import pytest
from model_configs import CONF, WRAPPERS, build
from omegaconf import OmegaConf


@pytest.mark.parametrize("name", WRAPPERS)
def test_taps_in_the_comments_exist(name: str) -> None:
    text = (CONF / "model" / f"{name}.yaml").read_text()
    match = re.search(r"\+student\.taps=(\{.*\})", text)
    assert match
    net = build(name)
    for path in OmegaConf.create(match[1]).values():
        net.get_submodule(path.removesuffix(":in"))
