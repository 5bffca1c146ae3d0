"""Offline distillation: the teacher's test logits by sample index."""

import torch
from support import linear_net, make_distiller, random_batch

from kd.distillers.offline import OfflineDistiller
from kd.objectives.ce import CrossEntropy


def test_teacher_test_logits_are_looked_up_by_index():
    logits = torch.randn(20, 3)
    distiller = make_distiller(
        OfflineDistiller,
        {"hard": CrossEntropy()},
        student=linear_net(1),
        tap_paths={},
        test_logits=logits,
    )
    index = torch.tensor([7, 3, 19, 0, 5, 5])
    found = distiller.teacher_test_logits(random_batch()._replace(index=index))
    torch.testing.assert_close(found, logits[index])
