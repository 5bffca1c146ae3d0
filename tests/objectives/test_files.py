"""Files of kd/objectives are named as the methods."""

import ast
from pathlib import Path

import pytest
from support import SHIPPED, read_yaml

from kd import objectives
from kd.config.compose import CONF_DIR
from kd.objectives import VARIANTS

METHODS = {path.stem: path for path in (CONF_DIR / "method").glob("*.yaml")}
FOLDER = Path(objectives.__path__[0])
# Modules that define a class with `forward` or `compare`: objectives, not helpers
FILES = {
    path.stem
    for path in FOLDER.glob("*.py")
    # Not a method, but what stands for cross-entropy in every method of detection
    if path.stem not in ("base", "logits", "detection_loss")
    and any(
        isinstance(node, ast.FunctionDef) and node.name in ("forward", "compare")
        for node in ast.walk(ast.parse(path.read_text()))
    )
}


def test_every_file_with_an_objective_has_the_name_of_a_method():
    assert METHODS.keys() >= FILES
    shared = {
        *("base", "checks", "heads", "logits", "maps", "merged_head", "mlkd_levels", "originals"),
        *("pairs", "precision", "regions", "rotations", "setting", "stage_layers", "tap_pairs"),
        *("token_maps", "tokens", "transport"),
    }
    assert not METHODS.keys() & shared


def test_every_method_but_the_variants_has_a_file():
    assert VARIANTS.keys() == SHIPPED - FILES
    assert set(VARIANTS.values()) <= FILES


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_objective_is_in_its_file(method):
    config = read_yaml(METHODS[method])
    # A term without it has its class from a default, and settings alone here.
    terms = [term for term in config.get("objectives", {}).values() if "_target_" in term]
    own = [term["_target_"].split(".") for term in terms]
    modules = {parts[2] for parts in own if parts[:2] == ["kd", "objectives"]}
    if method in FILES and modules:
        assert method in modules
    if method in VARIANTS:
        assert modules == {VARIANTS[method]}
