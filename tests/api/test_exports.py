"""The public names of `kd`: imported when read, typed, and each with an example."""

import inspect
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from commands import ROOT

import kd

HEAVY = ("torch", "hydra", "omegaconf", "lightning", "numpy", "safetensors")


def output(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout.strip()


def test_importing_kd_imports_nothing_heavy():
    code = f"import sys, kd; kd.__version__, dir(kd); print({{*{HEAVY}}} & sys.modules.keys())"
    assert output(code) == "set()"


def test_reading_a_name_imports_its_module_only():
    heavy = ("hydra", "omegaconf", "lightning", "torchvision")
    names = "kd.load, kd.losses.kd, kd.Taps, kd.Batch, kd.Outputs, kd.Objective, kd.UserError"
    code = f"import sys, kd; {names}; print([m for m in {heavy} if m in sys.modules])"
    assert output(code) == "[]"


def test_all_names_exist_and_are_listed():
    for name in kd.__all__:
        assert getattr(kd, name) is not None
        assert name in dir(kd)


def test_all_names_are_declared_for_type_checkers():
    text = Path(inspect.getfile(kd)).read_text()
    for name in set(kd.__all__) - {"__version__"}:
        assert f"import {name} as {name}\n" in text
    assert (Path(inspect.getfile(kd)).parent / "py.typed").is_file()


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'kd' has no attribute 'destil'"):
        _ = kd.destil


def test_a_checkout_that_is_not_installed_has_a_version(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    monkeypatch.delitem(vars(kd), "__version__", raising=False)
    assert kd.__version__ == "0+unknown"
    monkeypatch.delitem(vars(kd), "__version__")
