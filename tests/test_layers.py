"""Imports point downwards only, and the commands start without heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kd"

# From the ground up; a module imports from rows before its own and from its own package only.
LAYERS = """
compat errors metrics schedules types
io plots
models objectives
losses optimizers taps
tasks
config data
reports teachers
distillers
callbacks
build
validation
training
deploy
chains packing tuning
api
cache chain compress evaluate export methods predict report search train
"""
ROWS = [names.split() for names in LAYERS.strip().split("\n")]
ROW = {name: number for number, names in enumerate(ROWS) for name in names}
COMMANDS = set(ROWS[-1])
# Hydra and OmegaConf stay in the packages that turn a config into objects.
HYDRA = {*COMMANDS, "api", "build", "chains", "compat", "config", "deploy", "training", "tuning"}
HYDRA |= {"validation"}
# A file at the top of kd/ is a command or one of these.
GROUND = {"__init__", "api", "errors", "metrics", "schedules", "taps", "types"}
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            # `from kd import taps` imports the module kd.taps
            found |= {f"kd.{alias.name}" for alias in node.names if node.module == "kd"}
    return found


def part(name: str) -> str:
    """The part of the package that a module belongs to: kd.data.views -> data."""
    return name.split(".")[1]


def test_every_part_is_in_one_layer():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} <= ROW.keys()
    assert sorted(ROW) == sorted(name for names in ROWS for name in names)


def test_files_at_the_top_are_commands_and_ground_words():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files <= COMMANDS | GROUND
    assert len(files) <= len(COMMANDS) + 6


def test_imports_point_downwards():
    wrong = [
        f"{name} imports {other}"
        for name, path in ((module_name(path), path) for path in MODULES)
        if name != "kd"  # its names are loaded when they are used
        for other in imports(path)
        if other.startswith("kd.") and part(other) != part(name)
        if ROW[part(other)] >= ROW[part(name)]
    ]
    assert not wrong


def test_hydra_stays_at_the_top():
    users = [
        module_name(path)
        for path in MODULES
        if {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}
    ]
    assert [name for name in users if part(name) not in HYDRA] == []


def test_only_build_instantiates():
    users = [
        module_name(path)
        for path, tree in TREES.items()
        if "instantiate" in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    ]
    assert [name for name in users if part(name) != "build"] == []


# Public in spite of their names: namedtuple's methods, os._exit, keys of configs
PUBLIC = {"_asdict", "_exit", "_fields", "_make", "_replace", "_target_"}


def private_reads(tree: ast.Module) -> list[str]:
    """Private attributes of other objects than `self` and `cls`, with their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            dunder = node.attr.startswith("__") and node.attr.endswith("__")
            if not own and not dunder and node.attr not in PUBLIC:
                found.append(f"{ast.unparse(node)} in line {node.lineno}")
    return found


def test_private_attributes_of_other_objects_are_read_in_compat_only():
    found = {module_name(path): private_reads(tree) for path, tree in TREES.items()}
    assert {k: v for k, v in found.items() if v and part(k) != "compat"} == {}


def test_the_command_line_loads_nothing_heavy():
    heavy = ("torch", "lightning", "torchvision", "sklearn", "optuna", "scipy", "matplotlib")
    code = f"import sys, kd.train, kd.search; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert answer.stdout.strip() == "[]"
