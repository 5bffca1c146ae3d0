"""Imports point downwards only, and the commands start without heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kd"

# From the ground up; a module imports from the rows below its own and from its own package.
LAYERS = """
errors types schedules metrics
plots io
models objectives taps
losses
data config
teachers reports
distillers
callbacks
build
validation
training
chains tuning
train chain search cache methods report
"""
ROW = {name: row for row, names in enumerate(LAYERS.split("\n")) for name in names.split()}
# Hydra and OmegaConf stay in the packages that turn a config into objects.
HYDRA = {"config", "build", "validation", "training", "chains", "tuning"} | set(
    LAYERS.split("\n")[-2].split()
)
MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def part(name: str) -> str:
    """The part of the package a module belongs to: kd.data.views -> data."""
    return name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_point_downwards(path):
    name = module_name(path)
    if name == "kd":
        assert not imports(path)
        return
    for other in imports(path):
        if other.startswith("kd.") and part(other) != part(name):
            assert ROW[part(other)] < ROW[part(name)], f"{name} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_hydra_stays_at_the_top(path):
    used = {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}
    assert not used or part(module_name(path)) in HYDRA, f"{path} imports {used}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_build_instantiates(path):
    uses = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "instantiate" not in uses or part(module_name(path)) == "build"


def test_the_command_line_loads_nothing_heavy():
    heavy = ("torch", "lightning", "torchvision", "sklearn", "optuna")
    code = f"import sys, kd.train, kd.search; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert answer.stdout.strip() == "[]"
