"""V_kD (Miles, Elezi & Deng 2024): orthogonal projection and normalisation, against NumPy."""

from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from conftest import make_batch, make_outputs
from contract import Contract
from torch import nn

from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.token_maps import with_maps
from kd.objectives.vkd import OrthogonalProjection, vkd, whiten
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def smooth_l1(difference):
    size = np.abs(difference)
    return np.where(size < 1, size**2 / 2, size - 0.5).mean()


def standardised(rows):
    return (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)


def whitened(rows):
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / len(rows)
    ridge = 1e-3 * np.trace(covariance) / len(covariance) + 1e-6
    factor = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
    return centred @ np.linalg.inv(factor).T


class TestVKD(Contract):
    taps: ClassVar = {"embedding": (4,)}
    teacher_taps: ClassVar = {"embedding": (7,)}
    normalisation: ClassVar = "standardise"

    def make(self):
        return OrthogonalProjection(normalisation=self.normalisation)

    def reference(self, student, teacher, target, objective):
        matrix = objective.projector.weight.detach().double().numpy()
        normalise: dict[str, Any] = {
            "standardise": standardised,
            "whiten": whitened,
            "none": np.asarray,
        }
        theirs = normalise[self.normalisation](teacher.taps["embedding"])
        return smooth_l1(student.taps["embedding"] @ matrix.T - theirs)


class TestWideStudent(TestVKD):
    taps: ClassVar = {"embedding": (9,)}
    normalisation = "none"


class TestWhiten(TestVKD):
    normalisation = "whiten"


class TestMapAgainstVector(TestVKD):
    taps: ClassVar = {"embedding": (4, 3, 3)}

    def reference(self, student, teacher, target, objective):
        taps = student.taps["embedding"].mean((2, 3))
        return super().reference(student._replace(taps={"embedding": taps}), teacher, [], objective)


def test_tokens_are_the_mean_of_the_patches_without_class_token():
    torch.manual_seed(0)
    tokens, maps = torch.randn(3, 17, 4), torch.randn(3, 7, 2, 2)
    objective = OrthogonalProjection("tokens", "stage3")
    student, teacher = (
        with_maps(objective, make_outputs(torch.zeros(3, 5), **taps), torch.zeros(3, 1, 8, 8))
        for taps in ({"tokens": tokens}, {"stage3": maps})
    )
    objective.build(student, teacher, SETTING)
    matrix = cast(torch.Tensor, objective.projector.weight).detach().double().numpy()
    ours = tokens.double().numpy()[:, 1:].mean(1) @ matrix.T
    expected = smooth_l1(ours - standardised(maps.double().numpy().mean((2, 3))))
    value = objective(student, teacher, make_batch(torch.arange(3)))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def built(student, teacher, **options):
    objective = OrthogonalProjection(**options)
    ours, theirs = (
        Outputs(torch.zeros(2, 5), {"embedding": torch.zeros(2, d)}) for d in (student, teacher)
    )
    objective.build(ours, theirs, SETTING)
    return objective


@pytest.mark.parametrize(("student", "teacher"), [(4, 7), (7, 4), (5, 5)])
def test_the_projection_stays_orthogonal_during_training(student, teacher):
    torch.manual_seed(0)
    objective = built(student, teacher)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0, momentum=0.9, weight_decay=0.01)
    before = objective.projector.weight.detach().clone()
    rows, targets = torch.randn(16, student), torch.randn(16, teacher)
    for _ in range(30):
        optimizer.zero_grad()
        vkd(objective.projector(rows), targets).backward()
        optimizer.step()
    matrix = objective.projector.weight.detach()
    assert (matrix - before).abs().max() > 0.1  # it has been trained
    product = matrix.T @ matrix if student <= teacher else matrix @ matrix.T
    torch.testing.assert_close(product, torch.eye(len(product)), rtol=0, atol=1e-5)
    if student <= teacher:  # the inner products of the student are kept
        projected = rows @ matrix.T
        torch.testing.assert_close(projected @ projected.T, rows @ rows.T, rtol=1e-4, atol=1e-4)


def gram_error(projector):
    """How far the student's inner products are from the teacher's after training, relatively."""
    torch.manual_seed(1)
    teacher = nn.functional.layer_norm(torch.randn(8, 6), (6,))
    student = nn.Parameter(0.1 * torch.randn(8, 6))
    optimizer = torch.optim.Adam([student, *projector.parameters()], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        vkd(projector(student), teacher).backward()
        optimizer.step()
    rows = student.detach()
    return ((rows @ rows.T - teacher @ teacher.T).norm() / (teacher @ teacher.T).norm()).item()


def test_the_student_learns_the_relations_which_a_free_projection_would_learn_in_its_place():
    torch.manual_seed(0)
    orthogonal = gram_error(built(6, 6).projector)
    free = gram_error(nn.Linear(6, 6, bias=False))
    assert orthogonal < 0.05 < free


def test_scale_and_shift_of_the_teacher_do_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    for name in ("standardise", "whiten"):
        moved = vkd(student, 30 * teacher + 7, name)
        torch.testing.assert_close(moved, vkd(student, teacher, name), rtol=1e-3, atol=1e-4)


def test_whitened_dimensions_are_uncorrelated():
    torch.manual_seed(0)
    rows = whiten(torch.randn(500, 4) @ (torch.eye(4) + 0.5 * torch.rand(4, 4)) + 3)
    torch.testing.assert_close(rows.T @ rows / 500, torch.eye(4), rtol=0, atol=0.05)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"normalisation must be one of .*, got 'batch'"):
        OrthogonalProjection(normalisation="batch")
    sequences = Outputs(torch.zeros(2, 5), {"embedding": torch.zeros(2, 42, 3)})
    with pytest.raises(UserError, match=r"student tap 'embedding' has \[2, 42, 3\], teacher"):
        OrthogonalProjection().build(sequences, sequences, SETTING)
