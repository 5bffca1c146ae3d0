"""Gradient norms by hand, and the warning about dominated terms."""

import logging

import pytest
import torch
from hydra import compose, initialize_config_dir
from support import configured

from kd.callbacks.gradient_norms import GradientNorms, dominated, gradient_norm
from kd.config.compose import CONF_DIR, register_models
from kd.training.run import run


def test_norm_of_the_gradient_over_all_parameters():
    weights = [torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.ones(3))]
    term = 3 * weights[0].sum() + 4 * weights[1].sum()
    assert gradient_norm(term, weights) == pytest.approx((2 * 9 + 3 * 16) ** 0.5)
    assert gradient_norm(weights[0].sum(), weights) == pytest.approx(2**0.5)
    assert gradient_norm(torch.tensor(1.0), weights) == 0.0
    assert gradient_norm(torch.ones(2, requires_grad=True).sum(), weights) is None


def test_term_with_a_hundredth_of_the_gradient_is_dominated():
    assert dominated({"a": 100.0, "b": 1.01}) == []
    (line,) = dominated({"a": 100.0, "b": 1.0})
    assert "'b' is dominated by 'a': its gradient on the student is 1 against 100" in line
    assert len(dominated({"a": 5.0, "b": 0.0, "c": 0.01})) == 2


def test_zero_batches_are_refused():
    with pytest.raises(ValueError, match="batches must be ≥ 1, got 0"):
        GradientNorms(0)


@pytest.mark.parametrize(("alpha", "warns"), [(0.5, False), (0.9999, True)])
def test_run_with_gradient_norms_trains_the_same(alpha, warns, output, tmp_path, caplog, capsys):
    register_models(CONF_DIR)
    results = []
    for doctor in ("false", "true"):
        folder = tmp_path / doctor
        overrides = [
            *("teacher=resnet8", "student=resnet8", "trainer=cpu", "debug=fast", "logger=none"),
            *("trainer.enable_progress_bar=false", "trainer.limit_train_batches=6"),
            *(f"paths.run={folder}", f"paths.output={output}", f"doctor={doctor}"),
            *(f"method.alpha={alpha}", "method.temperature=1"),
        ]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose("train", overrides=overrides)
        with caplog.at_level(logging.WARNING, "kd.callbacks.gradient_norms"):
            results.append(run(cfg, folder))
    assert results[0]["test/nll"] == results[1]["test/nll"]
    shown = capsys.readouterr().out
    assert shown.count("mean of the first 5 batches") == 1  # and not once in each epoch
    assert "soft" in shown
    assert ("'hard' is dominated by 'soft'" in caplog.text) == warns


def test_a_training_of_few_batches_is_reported_once(output, tmp_path, capsys):
    options = ("doctor=true", "data.batch_size=640", "trainer.max_epochs=1", "method=ce")
    run(configured(tmp_path, output, *options), tmp_path)
    assert capsys.readouterr().out.count("mean of the first 2 batches") == 1


def test_a_stage_that_leaves_the_student_alone_is_not_counted(output, tmp_path, capsys):
    options = ("doctor=true", "method=sskd", "control=untrained", "trainer.max_epochs=1")
    run(
        configured(tmp_path, output, *options, "method.initial=0.5", "data.batch_size=64"), tmp_path
    )
    shown = capsys.readouterr().out
    assert shown.count("mean of the first 5 batches") == 1
    assert "soft" in shown
