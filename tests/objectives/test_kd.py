"""Hinton et al. 2015, in both forms, and logit standardisation (Sun et al. 2024)."""

import numpy as np
from contract import Contract

from kd.objectives.kd import SoftTargets
from kd.objectives.soft_ce import SoftTargetCrossEntropy


def softmax(rows, temperature=1.0):
    powers = np.exp((rows - rows.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def divergence(student, teacher, temperature):
    total = 0.0
    for ours, theirs in zip(
        softmax(student, temperature), softmax(teacher, temperature), strict=True
    ):
        total += sum(t * np.log(t / s) for s, t in zip(ours, theirs, strict=True))
    return temperature**2 * total / len(student)


class TestSoftTargets(Contract):
    def make(self):
        return SoftTargets(4.0)

    def reference(self, student, teacher, target, objective):
        return divergence(student.logits, teacher.logits, 4.0)


class TestStandardised(Contract):
    def make(self):
        return SoftTargets(2.0, standardise=True)

    def reference(self, student, teacher, target, objective):
        rows = [
            np.stack([(z - z.mean()) / z.std(ddof=1) for z in answer.logits])
            for answer in (student, teacher)
        ]
        return divergence(*rows, 2.0)


class TestSoftTargetCrossEntropy(Contract):
    at_teacher = None  # there the value is the teacher's entropy

    def make(self):
        return SoftTargetCrossEntropy(3.0)

    def reference(self, student, teacher, target, objective):
        ours, theirs = softmax(student.logits, 3.0), softmax(teacher.logits, 3.0)
        return -9 * np.mean([np.dot(t, np.log(s)) for s, t in zip(ours, theirs, strict=True)])
