"""Multi-level logit distillation on two views, against the formula of one in float64."""

import torch
from contract import Contract
from support import gradient
from test_mlkd import reference

from kd.objectives.mlkd_views import TwoViewMultiLevel


class TestTwoViews(Contract):
    batch_order_matters = True
    refuses_one_image = "even number of rows, got 1"

    def make(self):
        return TwoViewMultiLevel([2.0, 5.0], sample_weight=0.5, class_weight=3.0)

    def reference(self, student, teacher, target, objective):
        return (
            sum(
                reference(
                    student.logits[rows], teacher.logits[rows], t, range(3), range(5), 0.5, 3.0
                )
                for rows in (slice(0, 3), slice(3, 6))
                for t in (2, 5)
            )
            / 2
        )


def test_views_are_not_compared_with_each_other():
    """Moving the rows of one view leaves the gradient at the other view as it is."""
    objective, teacher = TwoViewMultiLevel(), torch.randn(8, 4)
    student, target = torch.randn(8, 4), torch.zeros(8).long()
    found = []
    for shift in (0.0, 1.0):
        moved = torch.cat([student[:4], student[4:].roll(1, 1) + shift]).requires_grad_()
        objective.compare(moved, teacher, target).backward()
        found.append(gradient(moved)[:4])
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)
