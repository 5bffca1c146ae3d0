"""Wang et al. 2019: imitation near objects."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.objectives.fgfi import FineGrainedImitation, near_objects

SIZE = 64
BOXES = [[(0, 5, 5, 25, 30)], [(1, 40, 2, 60, 22), (0, 8, 36, 20, 60)], []] * 2


def padded(boxes):
    target = torch.full((len(boxes), 2, 5), -1.0)
    for rows, found in zip(target, boxes, strict=True):
        for row, box in zip(rows, found, strict=False):
            row[:] = torch.tensor(box)
    return target


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def plain_mask(boxes, side):
    """Loops over objects, cells and anchors, of a map of side × side cells."""
    mask, stride = np.zeros((side, side), bool), SIZE / side
    for _, *box in boxes:
        found: dict[Any, float] = {}
        for y, x in np.ndindex(side, side):
            for base in (2.0, 4.0):
                for ratio in (0.5, 1.0, 2.0):
                    w, h = base * stride / ratio**0.5, base * stride * ratio**0.5
                    cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                    anchor = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                    found[y, x] = max(found.get((y, x), 0), overlap(anchor, box))
        for place, value in found.items():
            mask[place] |= value > 0.5 * max(found.values())
    return mask


def test_mask_is_the_papers():
    mask = near_objects(padded(BOXES), (8, 8), SIZE, (2.0, 4.0), 0.5).numpy()
    for found, boxes in zip(mask, BOXES, strict=True):
        assert (found == plain_mask(boxes, 8)).all()
    assert mask[0].any()
    assert not mask[2].any()


class TestImitation(Contract):
    taps: ClassVar = {"p3": (3, 8, 8)}
    teacher_taps: ClassVar = {"p3": (2, 8, 8)}

    def make(self):
        return FineGrainedImitation(["p3"])

    def case(self, batch=None, classes=None, scale=1.0):
        objective, student, teacher, given = super().case(batch, classes, scale)
        boxes = padded(BOXES)[: len(given.target)]
        images = torch.zeros(len(boxes), 1, SIZE, SIZE)
        return objective, student, teacher, given._replace(target=boxes, input=images)

    def test_batch_order(self):
        """The tester's batch has labels in place of boxes."""

    def reference(self, student, teacher, target, objective):
        adapter = objective.adapters["p3"].double()
        mapped = adapter(torch.tensor(student.taps["p3"])).detach().numpy()
        adapter.float()
        total, count = 0.0, 0
        for b, boxes in enumerate(BOXES):
            mask = plain_mask(boxes, 8)
            squares = ((mapped[b] - teacher.taps["p3"][b]) ** 2).mean(0)
            total, count = total + squares[mask].sum(), count + mask.sum()
        return total / (2 * count)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"psi": 1}, r"psi must be in \[0, 1\), got 1"),
        ({"sides": [0]}, "sides must be numbers > 0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        FineGrainedImitation(["p3"], **setting)
