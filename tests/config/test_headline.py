"""The first line of a command: what it says, and that no heavy library is loaded before."""

import re
import subprocess
import sys

import pytest
from commands import ROOT
from support import composed, present

from kd.config.headline import headline


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "kd: resnet20 → resnet8 on digits, method kd, mode offline, seed 0, 40 epochs, best"),
        (
            ["method=ce", "trainer=cpu", "seed=3", "trainer.max_epochs=1"],
            "kd: resnet8 on digits, method ce, mode offline, seed 3, 1 epoch, cpu → run",
        ),
        (["method=tfkd"], "kd: resnet8 on digits, method tfkd, "),
        (["teacher=ensemble"], r"kd: resnet20 \+ resnet14 → resnet8 on digits"),
        (["mode=pskd", "data=mnist"], "kd: resnet8 on mnist, method kd, mode pskd"),
        (["trainer=gpu", "trainer.devices=4"], "kd: resnet20 → resnet8 on digits, .*4 × gpu"),
    ],
)
def test_the_line_names_what_is_trained(overrides, line):
    found = headline(composed(*overrides))
    assert re.match(line, present(found)), found


def test_a_config_that_does_not_resolve_has_no_line():
    """Its check reports all that is wrong with it."""
    assert headline(composed("seed=${nothing}")) is None
    assert headline(composed("~trainer.devices")) is None


def test_one_process_of_several_prints_it(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert headline(composed()) is None


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("train", "kd: resnet20 → resnet8 on digits"),
        ("chain", "kd: resnet56 → resnet8 on digits"),
        ("search", "kd: resnet20 → resnet8 on digits"),
    ],
)
def test_the_line_comes_before_heavy_imports(command, line, tmp_path):
    options = ["stages=[resnet56,resnet8]"] if command == "chain" else []
    code = f"""
import logging, os, sys, kd.{command}

class Stop(logging.Handler):
    def emit(self, record):
        loaded = [name for name in ("torch", "lightning", "optuna") if name in sys.modules]
        print(record.getMessage(), loaded, flush=True)
        os._exit(0)

logging.getLogger(kd.{command}.log.name).addHandler(Stop())
sys.argv = ["{command}", "hydra.run.dir={tmp_path}", *{options}]
kd.{command}.main()
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.startswith(line), answer.stderr
    assert answer.stdout.strip().splitlines()[-1].endswith("[]")
