"""Xu et al. 2020, with cosines, ranks and divergences written again in NumPy."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from rotating import images_of, net
from support import composed, configured, random_batch, softmax

from kd.errors import UserError
from kd.objectives.originals import similarities, transferred
from kd.objectives.rotations import both_runs, rotated
from kd.objectives.setting import Setting
from kd.objectives.sskd import SelfSupervision, sskd
from kd.training.run import run
from kd.types import Outputs
from kd.validation.check import check_config


def head(module, rows):
    weights = [p.detach().double().numpy() for p in module.parameters()]
    hidden = np.maximum(rows @ weights[0].T + weights[1], 0)
    return hidden @ weights[2].T + weights[3]


def cosines(rows, others):
    return np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in others] for a in rows])


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


def chosen(similarity, images, kept):
    """Rows whose own image ranks first, and of the others the best ranked, earliest first."""
    ranks = [sorted(row, reverse=True).index(row[r % images]) for r, row in enumerate(similarity)]
    right = [r for r, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((r for r in range(len(ranks)) if ranks[r] > 0), key=lambda r: (ranks[r], r))
    return right + wrong[: int(kept * len(wrong))]


class TestSSKD(Contract):
    taps: ClassVar = {"embedding": (5,)}
    teacher_taps: ClassVar = {"embedding": (7,)}
    batch_order_matters = True  # the images of the rotated copies are those of the batch

    def make(self):
        return SelfSupervision(3.0, 0.4, kept=0.6, contrast=2.0, transformed=0.5)

    def setting(self, classes):
        runs = (net(classes, width, seed) for seed, width in enumerate((5, 7)))
        return Setting(classes, torch.arange(self.pool) % classes, None, None, (8, 8), None, None,
                       None, *runs)  # fmt: skip

    def case(self, batch=None, classes=None, scale=1.0):
        objective, student, teacher, given = super().case(batch, classes, scale)
        objective.enter("transfer")
        return objective, student, teacher, given._replace(input=images_of(given))

    def reference(self, student, teacher, target, objective):
        classes, images = student.logits.shape[1], len(target)
        turned = np.concatenate([np.rot90(self.images(target), k, (2, 3)) for k in (1, 2, 3)])
        own, their = (
            Outputs(*map(float64, net(classes, width, seed)(torch.tensor(turned).float())))
            for seed, width in enumerate((5, 7))
        )
        ours = cosines(
            head(objective.student_head, own.taps),
            head(objective.student_head, student.taps["embedding"]),
        )
        theirs = cosines(
            head(objective.teacher_head, their.taps),
            head(objective.teacher_head, teacher.taps["embedding"]),
        )
        rows = chosen(theirs, images, 0.6)
        assert 0 < len(rows) < 3 * images
        similar = kl(softmax(theirs / 0.4), softmax(ours / 0.4))[rows].mean()
        divergence = kl(softmax(their.logits / 3), softmax(own.logits / 3)).mean()
        return 2 * 0.4**2 * similar + 0.5 * 9 * divergence

    def images(self, target):
        return images_of(target).double().numpy()


def float64(value):
    value = value["embedding"] if isinstance(value, dict) else value
    return value.detach().double().numpy()


def test_matched_images_and_the_best_of_the_others_are_transferred():
    similarity = torch.tensor([[9.0, 1, 2, 3], [4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]])
    original = torch.tensor([0, 1, 2, 3])
    for kept, expected in ((0.0, [1, 0, 0, 0]), (0.4, [1, 1, 0, 0]), (1.0, [1, 1, 1, 1])):
        assert transferred(similarity, original, kept).tolist() == expected


def test_images_that_are_not_transferred_have_no_gradient_of_the_similarities():
    teacher = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    student, logits = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 3)
    sskd(logits, logits, student, teacher, torch.tensor([0, 1]), kept=0.0).backward()
    assert student.grad is not None
    assert student.grad[0].abs().sum() > 0
    assert student.grad[1].abs().sum() == 0


def test_the_head_finds_the_original_of_a_rotated_image_far_above_chance():
    torch.manual_seed(0)
    batch = random_batch(size=32)
    run_net = net(3, 16, 0)
    objective = SelfSupervision()
    outputs = run_net(batch.input)
    objective.build(
        outputs, outputs, Setting(3, batch.target, run_student=run_net, run_teacher=run_net)
    )
    objective.enter("head")
    optimizer = torch.optim.Adam(objective.teacher_head.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        objective(outputs, outputs, batch).backward()
        optimizer.step()
    head = objective.teacher_head
    turned = head(run_net(rotated(batch.input)).taps["embedding"])
    own = head(outputs.taps["embedding"])
    similarity = torch.nn.functional.normalize(turned) @ torch.nn.functional.normalize(own).T
    found = (similarity.argmax(1) == torch.arange(32).repeat(3)).float().mean()
    assert found > 10 / 32, "chance is 1/32"


def test_the_teachers_head_learns_in_the_first_stage_alone():
    torch.manual_seed(0)
    batch, run_net = random_batch(), net(3, 5, 0)
    outputs = run_net(batch.input)
    objective = SelfSupervision()
    objective.build(
        outputs, outputs, Setting(3, batch.target, run_student=run_net, run_teacher=run_net)
    )
    learning = {"head": (True, False), "transfer": (False, True), "": (True, True)}
    for stage, (theirs, ours) in learning.items():
        objective.enter(stage)
        objective.zero_grad(set_to_none=True)
        objective(outputs, outputs, batch).backward()
        assert all((p.grad is not None) == theirs for p in objective.teacher_head.parameters())
        assert all((p.grad is not None) == ours for p in objective.student_head.parameters())


@pytest.mark.parametrize("method", ["sskd", "hsakd"])
def test_runs_resume_exactly(method, output, tmp_path):
    """In both stages; the teacher's cache holds the unrotated images alone."""
    options = (f"method={method}", "trainer.max_epochs=2", "trainer.limit_train_batches=4")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(configured(whole, output, *options), whole)
    stop = "+callbacks.stop={_target_: support.InterruptAt, step: 3}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(broken, output, *options, stop), broken)
    resumed = run(configured(broken, output, *options, f"resume={broken}"), broken)
    for key in ("val/acc", "test/acc", "test/nll"):
        assert resumed[key] == expected[key], key


@pytest.mark.parametrize("method", ["sskd", "hsakd"])
@pytest.mark.parametrize("other", ["mode=mean_teacher", "teacher=ensemble"])
def test_other_teachers_are_refused(method, other):
    with pytest.raises(UserError, match="runs a pretrained teacher on images of its own"):
        check_config(composed(f"method={method}", other))


def test_cosines_have_their_digits_under_autocast():
    torch.manual_seed(0)
    turned, images = torch.randn(6, 5), torch.randn(2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarities(turned, images)
    torch.testing.assert_close(found, similarities(turned, images), rtol=0, atol=0)


def test_images_that_are_not_square_are_refused():
    run_net = net(3, 5, 0)
    setting = Setting(
        3, torch.arange(4), image_size=(8, 6), run_student=run_net, run_teacher=run_net
    )
    with pytest.raises(UserError, match=r"sskd rotates images.*square.*\(8, 6\)"):
        both_runs("sskd", setting)


def test_a_teacher_with_outputs_of_other_images_is_refused():
    with pytest.raises(UserError, match="control=shuffled exchanges those of the batch"):
        check_config(composed("method=sskd", "control=shuffled"))
    with pytest.raises(UserError, match="method=sskd runs both nets on rotated images"):
        both_runs("sskd", Setting(3, torch.arange(3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kept": 1.5}, r"kept must be in \[0, 1\]"),
        ({"contrast": -1.0}, r"contrast and transformed must be ≥ 0, got -1\.0 and 2\.7"),
        ({"temperature": 0.0}, "temperature must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SelfSupervision(**settings)
