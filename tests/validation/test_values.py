"""Values that all runs share are checked, and named with what is valid."""

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
