"""pyproject.toml declares every distribution that the package imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Scripts import one another.
OURS = {"kd", "reproductions", *(path.stem for path in (ROOT / "scripts").rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def declared() -> set[str]:
    requirements = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        requirements += extra
    return {re.split(r"[\[<>=]", each)[0].lower().replace("_", "-") for each in requirements}


@pytest.mark.parametrize("folder", ["kd", "scripts"])
def test_every_imported_distribution_is_declared(folder):
    modules = {name for path in (ROOT / folder).rglob("*.py") for name in imported(path)}
    names = packages_distributions()
    # The packages of an extra that is not installed bear the names of their modules.
    distributions = {
        module: {each.lower().replace("_", "-") for each in names.get(module, [module])}
        for module in modules - OURS - set(sys.stdlib_module_names)
    }
    missing = {module: each for module, each in distributions.items() if not each & declared()}
    assert not missing


def test_every_requirement_has_a_lowest_version():
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]
    bare = [each for each in requirements if ">=" not in each and not each.startswith("kd[")]
    assert not bare
