"""The examples in docstrings show what the code returns."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import kd

ROOT = Path(kd.__path__[0])
ELSEWHERE = {"api", "losses", "objectives"}  # tests of their own


def modules_with_examples() -> list[str]:
    files = [
        path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in ELSEWHERE
    ]
    relative = [path.relative_to(ROOT.parent) for path in files if ">>> " in path.read_text()]
    return sorted(
        ".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in relative
    )


@pytest.mark.parametrize("name", modules_with_examples())
def test_module_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
