"""The alpha-beta divergence (Wang et al. 2025), its limits and what its powers stress."""

import numpy as np
import pytest
import torch
from contract import Contract
from omegaconf import open_dict
from support import composed, gradient

from kd.config.identity import settings_hash
from kd.objectives.abkd import AlphaBeta, abkd, alpha_beta
from kd.objectives.kd import SoftTargets, kd


def softmax(row, temperature=1.0):
    powers = np.exp((row - row.max()) / temperature)
    return powers / powers.sum()


def by_definition(student, teacher, a, b, temperature):
    """The paper's equation, class by class; it has no value where a, b or a + b is 0."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for q, p in zip(softmax(ours, temperature), softmax(theirs, temperature), strict=True):
            mixed = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
            total += -mixed / (a * b)
    return temperature**2 * total / len(student)


class TestDefault(Contract):
    def make(self):
        return AlphaBeta()

    def reference(self, student, teacher, target, objective):
        return by_definition(student.logits, teacher.logits, 0.8, 0.3, 4.0)


class TestStudentsPowerAboveTheTeachers(Contract):
    def make(self):
        return AlphaBeta(2.0, teacher_power=0.2, student_power=1.1)

    def reference(self, student, teacher, target, objective):
        return by_definition(student.logits, teacher.logits, 0.2, 1.1, 2.0)


class TestReverse(Contract):
    def make(self):
        return SoftTargets(2.0, variant="reverse")

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs in zip(student.logits, teacher.logits, strict=True):
            q, p = softmax(ours, 2.0), softmax(theirs, 2.0)
            total += sum(s * (np.log(s) - np.log(t)) for s, t in zip(q, p, strict=True))
        return 4.0 * total / len(student.logits)


class TestHellinger(Contract):
    def make(self):
        return SoftTargets(2.0, variant="hellinger")

    def reference(self, student, teacher, target, objective):
        roots = [
            [np.sqrt(softmax(row, 2.0)) for row in outputs.logits] for outputs in (student, teacher)
        ]
        return 4.0 * np.mean([2 * np.sum((a - b) ** 2) for a, b in zip(*roots, strict=True)])


def log_probabilities(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [2 * torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2)]
    return [row.log_softmax(1) for row in rows]


def kullback_leibler(p, q):
    return np.sum(p * (np.log(p) - np.log(q)))


CORNERS = {
    (1.0, 0.0): kullback_leibler,
    (0.0, 1.0): lambda p, q: kullback_leibler(q, p),
    (0.5, 0.5): lambda p, q: 2 * np.sum((np.sqrt(p) - np.sqrt(q)) ** 2),
    (0.0, 0.0): lambda p, q: 0.5 * np.sum((np.log(p) - np.log(q)) ** 2),
    (1.0, 1.0): lambda p, q: 0.5 * np.sum((p - q) ** 2),
}


@pytest.mark.parametrize("powers", CORNERS)
def test_corners_are_known_divergences(powers):
    log_p, log_q = log_probabilities()
    rows = zip(log_p.exp().numpy(), log_q.exp().numpy(), strict=True)
    expected = 9.0 * np.mean([CORNERS[powers](p, q) for p, q in rows])
    # T times the log-probabilities are logits whose softened probabilities these are.
    assert abkd(3 * log_q, 3 * log_p, 3.0, *powers).item() == pytest.approx(expected, rel=1e-9)


# The definition has a hole at each of these powers, which the limit from both sides fills.
@pytest.mark.parametrize(("a", "b"), [(0.7, 0.0), (0.0, 0.7), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_limits_are_what_their_neighbours_tend_to(a, b):
    log_p, log_q = log_probabilities()
    near = by_definition(log_q.numpy(), log_p.numpy(), a + 1e-5, b + 1e-5, 1.0)
    assert alpha_beta(log_p, log_q, a, b).mean().item() == pytest.approx(near, rel=2e-3)


def test_a_small_power_loses_no_digits_in_float32():
    log_p, log_q = (rows.float() for rows in log_probabilities())
    small, limit = (alpha_beta(log_p, log_q, 1.0, power) for power in (1e-6, 0.0))
    torch.testing.assert_close(small, limit, rtol=1e-4, atol=1e-6)


def test_forward_variant_is_the_default_of_kd_bit_for_bit():
    student, teacher = (rows.float() for rows in log_probabilities())
    assert kd(student, teacher, variant="forward").equal(kd(student, teacher))
    expected = abkd(student, teacher, 4.0, teacher_power=1.0, student_power=0.0)
    torch.testing.assert_close(kd(student, teacher), expected)
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'backward'"):
        SoftTargets(4.0, variant="backward")


def fitted(a, b):
    """Probabilities of a student that has one logit to choose, for a teacher of two modes."""
    grid = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    classes = torch.arange(7, dtype=torch.float64)
    teacher = torch.tensor([0.02, 0.40, 0.05, 0.02, 0.05, 0.40, 0.06], dtype=torch.float64)
    # A single narrow mode: the student cannot have both of the teacher's.
    students = (-((classes - 3 - grid[:, None]) ** 2) / 2).log_softmax(1)
    divergence = alpha_beta(teacher.log().expand_as(students), students, a, b)
    return students[divergence.argmin()].exp()


def test_forward_kl_covers_both_modes_and_reverse_kl_chooses_one():
    """The paper's two extremes: forward KL spreads the student's mass, reverse KL concentrates."""
    forward, reverse = fitted(1.0, 0.0), fitted(0.0, 1.0)
    assert forward.argmax() in (3, 4)  # between the modes, which the teacher hardly has
    assert reverse.argmax() in (1, 5)
    assert reverse[reverse.argmax()] > forward[[1, 5]].max()


def test_the_students_power_gives_confident_classes_a_larger_share_of_the_gradient():
    """The paper's concentration on confidence grows with the student's power."""
    teacher = torch.tensor([[1.0, 0.0, 0.0]])
    shares = []
    for power in (0.0, 0.3, 1.0):
        student = torch.tensor([[0.0, 3.0, -1.0]], requires_grad=True)
        abkd(student, teacher, 1.0, 1.0, power).backward()
        size = gradient(student).abs()[0]
        shares.append((size[1] / size[2]).item())
    assert shares == sorted(shares)
    assert shares[-1] > 1.2 * shares[0]


def test_a_smaller_teachers_power_gives_a_larger_share_to_classes_of_great_disagreement():
    """The paper's concentration on hard classes, as the pull on the student's log-probabilities."""
    teacher = torch.tensor([[0.5999, 0.4, 0.0001]]).log()
    shares = []
    for power in (1.0, 0.8, 0.3, 0.0):
        student = torch.tensor([[0.39, 0.6, 0.01]]).log().requires_grad_()
        alpha_beta(teacher, student, power, 0.3).sum().backward()
        size = gradient(student).abs()[0]
        shares.append((size[2] / size[1]).item())  # a factor of 100 apart, and one of 1.5
    assert shares == sorted(shares)
    assert shares[-1] > 10 * shares[0]


@pytest.mark.parametrize(
    "options",
    [{"teacher_power": -0.1}, {"student_power": float("nan")}, {"teacher_power": float("inf")}],
)
def test_powers_out_of_range_raise(options):
    (name,) = options
    with pytest.raises(
        ValueError, match=f"{name} must be a finite number ≥ 0, got {options[name]}"
    ):
        AlphaBeta(**options)


def test_the_default_variant_is_no_part_of_the_hash():
    """A run of `kd` is the same experiment as before soft targets had variants."""
    cfg = composed("method=kd")
    before = settings_hash(cfg)
    assert cfg.method.objectives.soft.variant == "forward"
    with open_dict(cfg):
        del cfg.method.variant, cfg.method.objectives.soft.variant
    assert settings_hash(cfg) == before
    others = ("method.variant=reverse", "method.objectives.soft.variant=reverse")
    assert len({settings_hash(composed("method=kd", other)) for other in others} | {before}) == 3
