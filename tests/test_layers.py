"""Imports point downwards only, and the commands start without heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kd"

# Lowest first; a module may import from the layers below its own and from its own package.
LAYERS = [
    {
        "kd.errors",
        "kd.sealed",
        "kd.trace",
        "kd.tensor_file",
        "kd.whole_file",
    },
    {"kd.advice", "kd.allowed", "kd.lock", "kd.loggers", "kd.record", "kd.results"},
    {"kd.schedules", "kd.taps", "kd.models"},
    {"kd.objectives", "kd.data", "kd.metrics", "kd.reports"},
    {"kd.teachers"},
    {"kd.distillers"},
    {"kd.callbacks", "kd.checkpoints", "kd.doctor", "kd.drawing", "kd.pruning"},
    {"kd.config", "kd.space"},
    {"kd.proposals"},
    {"kd.build"},
    {"kd.members"},
    {"kd.checks"},
    {"kd.check"},
    {"kd.caching"},
    {"kd.acquire"},
    {"kd.ensemble"},
    {"kd.finish"},
    {"kd.run"},
    {"kd.chain_plan", "kd.storage"},
    {"kd.chain_run", "kd.study"},
    {"kd.cli"},
    {"kd.train", "kd.chain", "kd.search", "kd.cache", "kd.methods", "kd.report"},
]
HYDRA = {
    "kd.allowed",
    "kd.record",
    "kd.config",
    "kd.build",
    "kd.members",
    "kd.checks",
    "kd.check",
    "kd.caching",
    "kd.acquire",
    "kd.ensemble",
    "kd.finish",
    "kd.run",
    "kd.chain_plan",
    "kd.chain_run",
    "kd.study",
    "kd.cli",
    "kd.train",
    "kd.search",
    "kd.chain",
    "kd.cache",
    "kd.methods",
    "kd.report",
}
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
    """The part of the package a module belongs to: kd.data.views -> kd.data."""
    return ".".join(name.split(".")[:2])


def layer(name: str) -> int:
    return next(level for level, parts in enumerate(LAYERS) if part(name) in parts)


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_point_downwards(path):
    name = module_name(path)
    if name == "kd":
        assert not imports(path)
        return
    for other in imports(path):
        if other.startswith("kd.") and part(other) != part(name):
            assert layer(other) < layer(name), f"{name} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_hydra_stays_at_the_top(path):
    used = {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}
    assert not used or part(module_name(path)) in HYDRA, f"{path} imports {used}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_build_instantiates(path):
    uses = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "instantiate" not in uses or path.name == "build.py"


def test_the_command_line_loads_nothing_heavy():
    heavy = ("torch", "lightning", "torchvision", "sklearn", "optuna")
    code = f"import sys, kd.train, kd.search; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert answer.stdout.strip() == "[]"
