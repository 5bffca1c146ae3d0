"""Callbacks on their own: what they decide, without a run."""

from types import SimpleNamespace

import pytest
import torch

from kd.callbacks import BestOnValidation, StopOnDivergence
from kd.errors import UserError

STRATEGY = SimpleNamespace(reduce_boolean_decision=bool)


def feed(callback: StopOnDivergence, *losses: dict[str, float]) -> None:
    callback.on_train_start(None, None)
    for step, terms in enumerate(losses, start=1):
        outputs = {"loss": torch.tensor(1.0)}
        outputs["terms"] = {name: torch.tensor(value) for name, value in terms.items()}
        trainer = SimpleNamespace(global_step=step)
        callback.on_train_batch_end(trainer, None, outputs, None, step)


def test_finite_losses_pass():
    feed(StopOnDivergence(), *[{"hard": 1.0, "soft": 1e30}] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_step_and_the_term_are_named(bad):
    with pytest.raises(UserError, match=r"not finite: 'soft' \(step 2\)\. Lower"):
        feed(StopOnDivergence(), {"hard": 1.0, "soft": 1.0}, {"hard": 1.0, "soft": bad})


@pytest.mark.parametrize(
    ("current", "best", "kept"), [(0.9, None, True), (0.9, 0.9, True), (0.8, 0.9, False)]
)
def test_of_equal_scores_the_later_is_kept(current, best, kept, tmp_path):
    callback = BestOnValidation(dirpath=tmp_path, monitor="val/acc", mode="max")
    if best is not None:
        callback.best_model_score = torch.tensor(best)
        callback.best_k_models = {"a": torch.tensor(best)}
        callback.kth_best_model_path = "a"
    trainer = SimpleNamespace(strategy=STRATEGY)
    assert callback.check_monitor_top_k(trainer, torch.tensor(current)) is kept
