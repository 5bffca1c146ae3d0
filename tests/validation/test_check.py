"""Mistakes in a config: each one is reported with its place and the nearest valid choice."""

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
        (["method=feature", "method.beta=0.5"], r"weights.hard=-0.2: must be ≥ 0 \(alpha \+ beta"),
        (["+method.weights.sotf=1"], "weights.sotf names no objective; did you mean 'soft'"),
        (["~method.weights.soft"], "method.objectives.soft has no weight; add method.weights.soft"),
        (["method.weights.hard=0", "method.weights.soft=0"], "weights are all 0"),
        (["teacher=none"], "objectives.soft needs a teacher, and teacher=none"),
        (["method=fitnet", "method.student_tap=stag2"], "no tap 'stag2'.*did you mean 'stage2'"),
        (["method=fitnet", "method.teacher_tap=stage4"], "no tap 'stage4' in teacher=resnet20"),
        (["method=at", "method.variant=papr"], "variant must be one of .*got 'papr'"),
        (["method=at", "method.taps=[]"], "the two nets have no stage in common"),
        (["seed=-1"], "seed=-1: must be a whole number ≥ 0"),
        (["teacher.training.seed=5000000000"], "teacher.training.seed=5000000000: .*below"),
        (["teacher.training.batch_size=0"], "teacher.training.batch_size=0: must be a whole"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: a run needs all three"),
        (["resume=3"], "resume=3: must be a path"),
        (["deterministic=yes"], "deterministic=yes: must be false or strict"),
        (["checkpoint.every_minutes=0"], "checkpoint.every_minutes=0: must be a number > 0"),
        (["checkpoint=5"], "checkpoint.every_minutes=None: must be a number > 0"),
        (["method.weights.soft=heavy"], "method.weights.soft=heavy: must be a number"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: must be a whole number ≥ 1"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["teacher.training.optimizer.lr=-2"], "teacher.training.optimizer: Invalid.*-2"),
        (["scheduler.warmup=2"], "scheduler: warmup must be a fraction"),
        (["+optimizer.lrr=1"], "optimizer.lrr: torch.optim.SGD takes no 'lrr'; did you mean 'lr'"),
        (["+data.splitseed=3"], "data.splitseed: .* takes no .*did you mean 'split_seed'"),
        (["data.batch_size=abc"], "data.batch_size=abc: must be int"),
        (["data.val_fraction=half"], "data.val_fraction=half: must be float"),
        (["data.mean=[a]", "optimizer.momentum=x"], "optimizer.momentum=x: must be float"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: must be float"),
        (["+optimizer.foreach=2"], "optimizer.foreach=2: must be bool or null"),
        (["student.net.width=wide"], "student.net.width=wide: must be float"),
        (["student.net._target_=kd.models.nope.net"], "student.net._target_=kd.models.nope.net: "),
        (["data=image_folder"], "data.root has no value; give it as data.root=…"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(UserError, match=r"(?s)2 mistakes.*temperature=-1.*alpha=7"):
        check_config(composed("method.temperature=-1", "method.alpha=7"))
