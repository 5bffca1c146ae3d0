"""Arguments of every `_target_` are known to it and have its types."""

import pytest
from support import composed

from kd.errors import UserError
from kd.validation.check import check_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optimizer.lrr=1"], "optimizer.lrr: torch.optim.SGD takes no 'lrr'; did you mean 'lr'"),
        (["+data.splitseed=3"], "data.splitseed: .* takes no .*did you mean 'split_seed'"),
        (["data.batch_size=abc"], "data.batch_size=abc: must be int"),
        (["data.val_fraction=half"], "data.val_fraction=half: must be float"),
        (["data.mean=[a]", "optimizer.momentum=x"], "optimizer.momentum=x: must be float"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: must be float"),
        (["+optimizer.foreach=2"], "optimizer.foreach=2: must be bool or null"),
        (["student.net.width=wide"], "student.net.width=wide: must be float"),
        (["mode=kdcl", "+mode.distiller.num_classes=3"], "mode.distiller.num_classes: .* takes no"),
        (["+mode.distiller.views=2"], "mode.distiller.views: .* takes no 'views'; valid: none"),
        (["method=datafree", "+method.distiller.teacher=3"], "distiller.teacher: .* takes no"),
        (["student.net._target_=kd.models.nope.net"], "student.net._target_=kd.models.nope.net: "),
    ],
)
def test_wrong_arguments_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))
