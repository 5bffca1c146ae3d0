"""Runs within this process: stages, progress and compiled nets."""

from typing import ClassVar

import pytest
from lightning import Callback
from support import Losses, Watch, configured

from kd.training.run import run


@pytest.mark.parametrize("method", ["fitnet", "ft", "ab", "fsp"])
@pytest.mark.slow
def test_each_stage_trains_its_own_terms(method, output, tmp_path):
    """The first stage has a single term; the second adds the labels."""
    watch = "+callbacks.terms={_target_: test_run.Terms}"
    # fsp: the two nets differ in their channels.
    method = f"method={method}", *(["method.variant=project"] if method == "fsp" else [])
    run(configured(tmp_path, output, *method, "method.initial=0.5", watch), tmp_path)
    first, second = Terms.seen[0], Terms.seen[-1]
    assert len(Terms.seen) == 30
    assert Terms.seen[14] == first
    assert Terms.seen[15] == second
    assert "hard" not in first
    assert "hard" in second
    joint = tmp_path / "joint"
    run(configured(joint, output, *method, "method.joint=true", watch), joint)
    assert Terms.seen[0] == Terms.seen[-1]


class Terms(Callback):
    """Record the terms that each step computed."""

    seen: ClassVar[list] = []

    # Not in __init__: a teacher that is trained first has one of these callbacks as well.
    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(set(outputs["terms"]))


@pytest.mark.slow
def test_compiled_nets_learn_the_same(output, tmp_path):
    results = [
        run(configured(tmp_path / name, output, f"compile={mode}", "trainer.max_epochs=1",
            "method=at", "teacher.cache.mode=off", "+callbacks.losses={_target_: support.Losses}",
            "trainer.limit_train_batches=3"), tmp_path / name) and list(Losses.seen)
        for name, mode in (("eager", "null"), ("compiled", "default"))
    ]  # fmt: skip
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_progress_and_learning_rate_change_with_every_step(output, tmp_path):
    watch = ("+callbacks.watch={_target_: support.Watch}", "scheduler=linear", "optimizer.lr=0.1")
    states = []
    for method in ("ce", "fitnet"):
        folder = tmp_path / method
        joint = ["method.joint=true"] if method == "fitnet" else []
        run(configured(folder, output, f"method={method}", *joint, *watch), folder)
        state, *steps = Watch.seen
        states.append(state.clone())
        assert len(steps) == 30
        for number, (progress, rate) in enumerate(steps, start=1):
            assert progress == pytest.approx(number / 30)
            assert rate == pytest.approx(0.1 * (1 - number / 30), abs=1e-6)
    # Building adapters draws random numbers, but training starts from the same state.
    assert states[0].equal(states[1])
