"""Yang et al. 2021, with the auxiliary classifiers written again in NumPy."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, Shapes
from rotating import images_of, net
from support import random_batch, softmax
from test_ft import convolve

from kd.errors import UserError
from kd.objectives.hsakd import RotationClasses, hsakd
from kd.objectives.setting import Setting
from kd.types import Outputs

STUDENT: Shapes = {"stage1": (3, 4, 4), "stage2": (2, 2, 2)}
TEACHER: Shapes = {"stage1": (4, 4, 4), "stage2": (3, 2, 2)}


def head(module, maps, trained):
    """3×3 convolution, batch norm as it is at first, ReLU, mean over positions, linear."""
    kernel, *_, weight, bias = [p.detach().double().numpy() for p in module.parameters()]
    maps = convolve(maps, kernel)
    if trained:
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    else:
        mean, variance = np.zeros(maps.shape[1]), np.ones(maps.shape[1])
    maps = (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    return np.maximum(maps, 0).mean((2, 3)) @ weight.T + bias


def divergence(theirs, ours, temperature):
    p, q = softmax(theirs / temperature), softmax(ours / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(1).mean()


def setting(classes, labels):
    runs = net(classes, 0, 0, **STUDENT), net(classes, 0, 1, **TEACHER)
    return Setting(classes, labels, run_student=runs[0], run_teacher=runs[1])


class TestHSAKD(Contract):
    taps: ClassVar = STUDENT
    teacher_taps: ClassVar = TEACHER
    batch_order_matters = True  # the images of the rotated copies are those of the batch

    def make(self):
        return RotationClasses(["stage1", "stage2"], temperature=2.0)

    def setting(self, classes):
        return setting(classes, torch.arange(self.pool) % classes)

    def case(self, batch=None, classes=None, scale=1.0):
        objective, student, teacher, given = super().case(batch, classes, scale)
        objective.enter("transfer")
        return objective, student, teacher, given._replace(input=images_of(given))

    def reference(self, student, teacher, target, objective):
        images = images_of(torch.tensor(target)).numpy()
        turned = torch.tensor(np.concatenate([np.rot90(images, k, (2, 3)) for k in (1, 2, 3)]))
        classes, total = student.logits.shape[1], 0.0
        own, their = (
            net(classes, 0, n, **taps)(turned) for n, taps in enumerate((STUDENT, TEACHER))
        )
        for tap in STUDENT:
            joint = [
                head(
                    heads[tap],
                    np.concatenate([first.taps[tap], rest.taps[tap].double().numpy()]),
                    mode,
                )
                for heads, first, rest, mode in (
                    (objective.teacher_heads, teacher, their, False),
                    (objective.student_heads, student, own, True),
                )
            ]
            assert joint[0].shape == (4 * len(target), 4 * classes)
            total += divergence(joint[0], joint[1], 2.0)
        final = [
            np.concatenate([first.logits, rest.logits.double().numpy()])
            for first, rest in ((teacher, their), (student, own))
        ]
        return total + divergence(final[0], final[1], 2.0)


def prepared(size=6):
    torch.manual_seed(0)
    batch = random_batch(size)
    objective = RotationClasses(["stage1", "stage2"])
    made = setting(3, batch.target)
    assert made.run_student is not None
    assert made.run_teacher is not None
    outputs = made.run_student(batch.input), made.run_teacher(batch.input)
    objective.build(*outputs, made)
    return objective, *outputs, batch


def joint_accuracy(heads, batch, run):
    """Share of images and rotations whose class and rotation all heads find together."""
    turned = [batch.input.rot90(k, (2, 3)) for k in range(4)]
    logits = sum(
        head(torch.cat([run(images).taps[tap] for images in turned])) for tap, head in heads.items()
    )
    label = torch.cat([4 * batch.target + k for k in range(4)])
    return (logits.argmax(1) == label).float().mean().item()


def test_both_nets_heads_find_class_and_rotation_far_above_chance():
    """The teacher's in their stage, from labels; the student's in the next, from the teacher's."""
    objective, student, teacher, batch = prepared(size=12)
    runs = setting(3, batch.target)
    found = {}
    for stage, heads in (("heads", "teacher_heads"), ("transfer", "student_heads")):
        objective.enter(stage)
        optimizer = torch.optim.Adam((p for p in objective.parameters() if p.requires_grad), 0.02)
        for _ in range(150):
            optimizer.zero_grad()
            objective(student, teacher, batch).backward()
            optimizer.step()
        objective.eval()
        run = runs.run_teacher if stage == "heads" else runs.run_student
        found[stage] = joint_accuracy(getattr(objective, heads), batch, run)
        objective.train()
    assert found["heads"] > 0.5, "chance is 1/12"
    assert found["transfer"] > 0.3, "chance is 1/12"


def test_the_teachers_heads_learn_in_the_first_stage_alone():
    objective, student, teacher, batch = prepared()
    learning = {"heads": (True, False), "transfer": (False, True), "": (True, True)}
    for stage, (theirs, ours) in learning.items():
        objective.enter(stage)
        objective.zero_grad(set_to_none=True)
        objective(student, teacher, batch).backward()
        assert all((p.grad is not None) == theirs for p in objective.teacher_heads.parameters())
        assert all((p.grad is not None) == ours for p in objective.student_heads.parameters())


def test_equal_predictions_are_a_minimum():
    logits, joint = torch.randn(8, 3), [torch.randn(8, 12)]
    assert hsakd(logits, logits, joint, joint).item() == pytest.approx(0, abs=1e-6)
    shifted = [joint[0] + 3.0]
    assert hsakd(logits, logits + 1.0, shifted, joint).item() == pytest.approx(0, abs=1e-6)


def test_vectors_are_refused():
    objective = RotationClasses(["stage1"])
    outputs = Outputs(torch.zeros(2, 3), {"stage1": torch.zeros(2, 4)})
    with pytest.raises(UserError, match="hsakd needs maps"):
        objective.build(outputs, outputs, setting(3, torch.arange(4) % 3))
