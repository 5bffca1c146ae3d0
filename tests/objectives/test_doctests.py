"""The examples in the docstrings of kd.objectives and kd.losses give what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from kd import objectives

MODULES = [
    "kd.losses",
    *(f"kd.objectives.{path.stem}" for path in sorted(Path(objectives.__path__[0]).glob("*.py"))),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0
