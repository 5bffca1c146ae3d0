"""Similarity-preserving KD (Tung & Mori 2019), and helpers shared by the relation methods."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.pairs import gram, off_diagonal
from kd.objectives.sp import Similarity, sp


def similarities(features):
    rows = [feature.ravel() for feature in features]
    matrix = []
    for a in rows:
        products = [sum(x * y for x, y in zip(a, b, strict=True)) for b in rows]
        length = sum(p * p for p in products) ** 0.5
        matrix.append([p / length for p in products])
    return matrix


def reference(ours, theirs):
    s, t = similarities(ours), similarities(theirs)
    size = len(s)
    return sum((s[i][j] - t[i][j]) ** 2 for i in range(size) for j in range(size)) / size**2


class TestSimilarity(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3)}
    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return Similarity("stage3")

    def reference(self, student, teacher, target, objective):
        return reference(student.taps["stage3"], teacher.taps["stage3"])


class TestOtherShapes(TestSimilarity):
    teacher_taps: ClassVar = {"stage3": (7, 5, 5)}


class TestMapAgainstVector(TestSimilarity):
    teacher_taps: ClassVar = {"stage3": (9,)}


def rotation(size):
    return torch.linalg.qr(torch.randn(size, size))[0]


def test_rotation_does_not_matter():
    torch.manual_seed(0)
    ours, theirs = torch.randn(8, 6), torch.randn(8, 10)
    before = sp(ours, theirs)
    torch.testing.assert_close(sp(ours @ rotation(6), theirs), before)
    torch.testing.assert_close(sp(ours, 3 * theirs @ rotation(10)), before)
    assert (sp(ours @ torch.randn(6, 6), theirs) - before).abs() > 1e-4


def test_rotated_copy_of_the_teacher_costs_nothing():
    torch.manual_seed(0)
    theirs = torch.randn(8, 6)
    assert sp(theirs @ rotation(6), theirs) < 1e-12
    assert sp(torch.randn(8, 6), theirs) > 1e-3


def test_products_are_float32_under_autocast():
    torch.manual_seed(0)
    rows = torch.randn(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products = gram(rows)
    torch.testing.assert_close(products, (rows.double() @ rows.double().T).float())


def test_off_diagonal():
    matrix = np.arange(16).reshape(4, 4)
    expected = [[matrix[i, j] for j in range(4) if i != j] for i in range(4)]
    assert off_diagonal(torch.from_numpy(matrix)).tolist() == expected


def test_one_image_raises_and_names_the_setting():
    with pytest.raises(UserError, match=r"at least 2 .* got 1; use a larger data\.batch_size"):
        TestSimilarity().value(*TestSimilarity().case(batch=1))
