"""Callbacks watch figures that a run logs, in the direction in which they improve."""

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config


def stopping(target="EarlyStopping", **settings: str) -> str:
    listed = ",".join(f"{key}:{value}" for key, value in settings.items())
    return f"+callbacks.stop={{_target_:lightning.pytorch.callbacks.{target},{listed}}}"


@pytest.mark.parametrize("target", ["EarlyStopping", "ModelCheckpoint"])
def test_a_mistyped_figure_is_named_with_the_nearest(target):
    with pytest.raises(UserError, match=r"stop.monitor=val/accc: no run logs it; did you mean"):
        check_config(composed(stopping(target, monitor="val/accc", mode="max")))


def test_the_direction_must_be_that_of_the_figure():
    with pytest.raises(UserError, match=r"stop.mode=min: val/acc rises in a good run"):
        check_config(composed(stopping(monitor="val/acc")))
    with pytest.raises(UserError, match=r"stop.mode=max: val/nll falls"):
        check_config(composed(stopping(monitor="val/nll", mode="max")))


@pytest.mark.parametrize(
    "words",
    [
        (stopping(monitor="val/acc", mode="max"),),
        (stopping(monitor="train/soft"),),
        (stopping(monitor="val/peer1/acc", mode="max"), "mode=online"),
        (stopping(monitor="train/generator/acc", mode="max"), "method=datafree"),
        (stopping(monitor="train/generator/statistics"), "method=datafree"),
        (stopping(monitor="train/teacher/hard"), "teacher.update=[fc]"),
    ],
)
def test_figures_that_runs_log_are_accepted(words):
    check_config(composed(*words))
