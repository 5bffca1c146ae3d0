"""`trainer.precision=auto`, and the warning about precisions that a processor emulates."""

import logging

import pytest
import torch
from omegaconf import OmegaConf
from support import configured

from kd import compat
from kd.build import precision
from kd.build.precision import choose_precision, warn_of_slow_precision
from kd.config.experiment import experiment_settings
from kd.config.identity import Identity
from kd.training.run import run

NATIVE = frozenset({"bfloat16"})
EMULATED: frozenset[str] = frozenset()


def chosen(monkeypatch, formats, **trainer):
    monkeypatch.setattr(precision, "cpu_number_formats", lambda: formats)
    cfg = OmegaConf.create({"trainer": {"accelerator": "cpu", "precision": "auto"} | trainer})
    choose_precision(cfg)
    return cfg.trainer.precision


def test_auto_takes_bfloat16_where_the_processor_has_it(monkeypatch):
    assert chosen(monkeypatch, NATIVE) == "bf16-mixed"
    assert chosen(monkeypatch, EMULATED) == "32-true"


def test_a_precision_that_is_named_is_kept(monkeypatch):
    assert chosen(monkeypatch, NATIVE, precision="64-true") == "64-true"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_on_a_gpu_does_not_count_emulation(native, expected, monkeypatch):
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return native

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    # EMULATED is the processor, which does not matter here.
    assert chosen(monkeypatch, EMULATED, accelerator="auto") == expected
    assert asked == [False]


@pytest.mark.parametrize(
    ("name", "formats", "warned"),
    [
        ("bf16-mixed", EMULATED, True),
        ("bf16-true", EMULATED, True),
        ("16-mixed", NATIVE, True),
        ("bf16-mixed", NATIVE, False),
        ("32-true", EMULATED, False),
        ("64-true", EMULATED, False),
    ],
)
def test_an_emulated_precision_is_said(name, formats, warned, monkeypatch, caplog):
    monkeypatch.setattr(precision, "cpu_number_formats", lambda: formats)
    with caplog.at_level(logging.WARNING):
        warn_of_slow_precision(OmegaConf.create({"accelerator": "cpu", "precision": name}))
    assert (f"trainer.precision={name}: this processor" in caplog.text) is warned


def test_a_run_records_what_auto_chose(tmp_path, output):
    """So that equal hashes mean equal numbers on machines that choose differently."""
    best = "bf16-mixed" if "bfloat16" in compat.cpu_number_formats() else "32-true"
    options = ("method=ce", "trainer.max_epochs=1", "trainer.precision=")
    result = run(configured(tmp_path, output, *options[:2], f"{options[2]}auto"), tmp_path)
    named = configured(tmp_path, output, *options[:2], f"{options[2]}{best}")
    recorded = OmegaConf.load(tmp_path / ".hydra" / "config.yaml")
    assert recorded.trainer.precision == best
    same = Identity(experiment_settings(named), result["data/fingerprint"])
    assert result["config_hash"] == same.hash
