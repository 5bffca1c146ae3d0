"""Values that all runs share are checked, and named with what is valid."""

import re

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.temperature=0"], "method.temperature=0: must be a number > 0"),
        (["method.temperature=hot"], "method.temperature=hot: must be a number > 0"),
        (["method.alpha=1.5"], r"method.alpha=1.5: must be in \[0, 1\]"),
        (["method=at", "method.beta=-1"], "method.beta=-1: must be a number ≥ 0"),
        (["seed=-1"], "seed=-1: must be a whole number ≥ 0"),
        (["teacher.training.seed=5000000000"], "teacher.training.seed=5000000000: .*below"),
        (["teacher.training.batch_size=0"], "teacher.training.batch_size=0: must be a whole"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: a run uses all three"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: must be a whole number ≥ 1"),
        (["trainer.devices=2gpu"], "configuration\n  trainer.devices=2gpu: must be a number ≥ 1"),
        (["teacher.training.trainer.devices=0"], "teacher.training.trainer.devices=0: must be"),
        (["resume=3"], "resume=3: must be a path"),
        (["deterministic=yes"], "deterministic=yes: must be false or strict"),
        (["checkpoint.every_minutes=0"], "checkpoint.every_minutes=0: must be a number > 0"),
        (["checkpoint=5"], "checkpoint.every_minutes=None: must be a number > 0"),
    ],
)
def test_wrong_values_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student.checkpoint_key=ema"], "student.checkpoint_key=ema: belongs to student.checkp"),
        (["teacher.checkpoint_key=ema"], "teacher.checkpoint_key=ema: belongs to teacher.checkp"),
        (["student.checkpoint_key=3"], "student.checkpoint_key=3: must be a name"),
        (["teacher.mean=[0.5]"], r"teacher.mean=\[0.5\]: belongs to teacher.checkpoint"),
        (["teacher.std=[0.5]"], r"teacher.std=\[0.5\]: belongs to teacher.checkpoint"),
        (
            [
                *("teacher=ensemble", "teacher.members=[resnet8,resnet14]"),
                "teacher.checkpoint_keys=[null,ema]",
            ],
            r"teacher.checkpoint_keys\[1\]=ema: belongs to teacher.checkpoints\[1\]",
        ),
        (["teacher.mean=[0.5]", "teacher.std=[0]"], "teacher.mean=.*, teacher.std=.*: belongs"),
        (["scheduler=step", "scheduler.gamma=-1"], "scheduler.gamma=-1: .* fall to -1; .* ≥ 0"),
        (["scheduler=step", "scheduler.gamma=nan"], "scheduler.gamma=nan: .* become nan"),
        (["scheduler=step", "scheduler.gamma=inf"], "scheduler.gamma=inf: .* become inf"),
        (["scheduler=step", "scheduler.gamma=1e200"], "scheduler=kd.schedules.Step: .* grow"),
        (["scheduler=linear", "scheduler.end=-0.1"], "scheduler.end=-0.1: .* fall to -0.1;"),
        (["scheduler=linear", "+scheduler.begin=-2"], "scheduler.begin=-2: .* fall to -2;"),
        (["+scheduler.end=-0.5"], "scheduler.end=-0.5: .* fall to -0.5;"),
        (["scheduler=constant", "+scheduler.value=-1"], "scheduler.value=-1: .* fall to -1;"),
        (
            ["scheduler@teacher.training.scheduler=linear", "teacher.training.scheduler.end=-1"],
            "teacher.training.scheduler.end=-1: .* fall to -1;",
        ),
    ],
)
def test_a_mistake_is_one_message(overrides, message):
    with pytest.raises(UserError) as raised:
        check_config(composed(*overrides))
    first, *others = str(raised.value).splitlines()[1:]
    assert re.match(rf"\s*{message}", first)
    assert not others


def test_a_product_of_negative_factors_is_a_valid_learning_rate():
    check_config(composed("scheduler=linear", "+scheduler.value=-1", "+scheduler.begin=-1"))
