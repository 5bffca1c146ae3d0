"""DeiT (Touvron et al. 2021): its two tokens, against NumPy, and what is deployed."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from safetensors.torch import load_file
from support import built, composed, divergence, present, softmax

import kd
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.objectives.deit import ClassToken, DistillationToken, deit
from kd.objectives.setting import Setting
from kd.taps import Taps
from kd.types import Outputs
from kd.validation.check import check_config

STUDENT = ("student=deit_tiny_cifar", "student.net.dim=12", "student.net.depth=4")


class TokenContract(Contract):
    """The taps are logits, as wide as there are classes."""

    taps: ClassVar = {"classifier": (), "distillation": ()}
    teacher_taps: ClassVar = {}
    at_teacher = None

    def outputs(self, shapes, batch, classes, scale=1.0):
        return super().outputs(dict.fromkeys(shapes, (classes,)), batch, classes, scale)


class TestHard(TokenContract):
    def make(self):
        return DistillationToken()

    def reference(self, student, teacher, target, objective):
        logs = np.log(softmax(student.taps["distillation"]))
        return -logs[np.arange(len(logs)), teacher.logits.argmax(1)].mean()


class TestSoft(TokenContract):
    def make(self):
        return DistillationToken("soft", temperature=2.0)

    def reference(self, student, teacher, target, objective):
        return 4 * divergence(
            softmax(teacher.logits / 2), softmax(student.taps["distillation"] / 2)
        )


class TestLabels(TokenContract):
    def make(self):
        return ClassToken(label_smoothing=0.1)

    def reference(self, student, teacher, target, objective):
        logs = np.log(softmax(student.taps["classifier"]))
        return -(0.9 * logs[np.arange(len(logs)), target] + 0.1 * logs.mean(1)).mean()


def test_hard_distillation_reads_no_more_than_the_teachers_class():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    torch.testing.assert_close(deit(student, 9 * teacher - 3), deit(student, teacher))
    assert deit(100 * torch.eye(5), torch.eye(5)).item() == pytest.approx(0, abs=1e-6)
    assert deit(teacher, teacher, "soft").item() == pytest.approx(0, abs=1e-6)


def test_each_token_has_its_own_target():
    """Labels reach the class token alone, the teacher the distillation token alone."""
    logits = {
        name: torch.zeros(2, 3, requires_grad=True) for name in ("classifier", "distillation")
    }
    student, batch = Outputs(torch.zeros(2, 3), logits), make_batch(torch.tensor([0, 1]))
    teacher = Outputs(torch.tensor([[0.0, 0.0, 1.0]] * 2), {})
    (
        ClassToken()(student, teacher, batch) + DistillationToken()(student, teacher, batch)
    ).backward()
    for name, pulled in (("classifier", [0, 1]), ("distillation", [2, 2])):
        grad = logits[name].grad
        assert grad is not None
        assert grad.argmin(1).tolist() == pulled


def test_the_distillation_head_learns_from_the_teacher_and_the_class_head_from_the_labels():
    """The teacher names another class than the label, and each head follows its own."""
    torch.manual_seed(0)
    net, paths = built("deit_tiny_cifar", dim=12, depth=4)
    taps = Taps(net, paths, ["classifier", "distillation"])
    images, target = torch.randn(8, 1, 8, 8), torch.arange(8) % 4
    teacher, batch = Outputs(9 * torch.eye(10)[target + 5], {}), make_batch(target)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        student = taps.outputs(images)
        loss = ClassToken()(student, teacher, batch) + DistillationToken()(student, teacher, batch)
        loss.backward()
        optimizer.step()
    heads = taps.outputs(images).taps
    assert torch.equal(heads["classifier"].argmax(1), target)
    assert torch.equal(heads["distillation"].argmax(1), target + 5)


@pytest.mark.parametrize("student", ["resnet8", "vit_tiny_cifar"])
def test_a_student_without_the_token_is_refused_with_one_that_has_it(student):
    with pytest.raises(UserError, match=f"'distillation' in student={student}.*deit_tiny_cifar"):
        check_config(composed("method=deit", f"student={student}"))
    check_config(composed("method=deit", "student=deit_tiny_cifar"))


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'firm'"):
        DistillationToken("firm")
    with pytest.raises(ValueError, match="temperature must be a number > 0"):
        DistillationToken("soft", 0)
    outputs = Outputs(torch.zeros(2, 3), {"distillation": torch.zeros(2, 17, 12)})
    with pytest.raises(UserError, match=r"'distillation', which has \[2, 17, 12\]"):
        DistillationToken().build(outputs, outputs, Setting(3, torch.arange(3)))


def test_the_student_file_holds_the_net_that_predicts(train, output):
    run = output / "deit"
    line = ("method=deit", "teacher=resnet8", *STUDENT, f"hydra.run.dir={run}")
    completed = train(*line, "optimizer=adamw", "optimizer.lr=1e-3")
    assert completed.returncode == 0, completed.stderr
    net = kd.load(run)
    weights = load_file(run / "student.safetensors")
    assert weights.keys() == net.state_dict().keys()
    assert {"vit.dist_token", "vit.head_dist.weight"} <= weights.keys()
    assert sum(p.numel() for p in net.parameters()) == present(read_result(run))["student/params"]
