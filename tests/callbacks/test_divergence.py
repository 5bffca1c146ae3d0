"""Detection of losses that are not finite."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import UNUSED

from kd.callbacks.divergence import StopOnDivergence
from kd.errors import UserError


def feed(callback: StopOnDivergence, *losses: dict[str, float]) -> None:
    callback.on_train_start(UNUSED, UNUSED)
    for step, terms in enumerate(losses, start=1):
        outputs: dict[str, Any] = {"loss": torch.tensor(1.0)}
        outputs["terms"] = {name: torch.tensor(value) for name, value in terms.items()}
        trainer: Any = SimpleNamespace(global_step=step)
        callback.on_train_batch_end(trainer, UNUSED, outputs, None, step)


def test_finite_losses_are_accepted():
    feed(StopOnDivergence(), *[{"hard": 1.0, "soft": 1e30}] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_error_names_the_first_bad_step_and_term(bad):
    with pytest.raises(UserError, match=r"not finite: 'soft' \(step 2\)\. Lower"):
        feed(StopOnDivergence(), {"hard": 1.0, "soft": 1.0}, {"hard": 1.0, "soft": bad})
