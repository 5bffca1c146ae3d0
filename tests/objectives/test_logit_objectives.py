"""What standardised logits promise, for every term that reads nothing but logits."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from conftest import make_batch

import kd.objectives
from kd.objectives.logits import LogitObjective
from kd.types import Outputs

# For constructors that ask for more than they have defaults for.
ARGUMENTS = {"temperature": 4.0}


def logit_objectives() -> list[type[LogitObjective]]:
    for module in pkgutil.walk_packages(kd.objectives.__path__, "kd.objectives."):
        importlib.import_module(module.name)
    found, waiting = set(), [LogitObjective]
    while waiting:
        children = waiting.pop().__subclasses__()
        waiting += children
        found |= {kind for kind in children if kind.__module__.startswith("kd.objectives.")}
    return sorted(
        (kind for kind in found if not inspect.isabstract(kind)), key=lambda kind: kind.__name__
    )


def make(kind: type[LogitObjective], standardise: bool) -> LogitObjective:
    parameters = inspect.signature(kind).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return kind(**{name: ARGUMENTS[name] for name in needed}, standardise=standardise)


def values(objective: LogitObjective) -> tuple[float, float]:
    """The term before and after every row of the student's logits is scaled and shifted."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, 6, generator=generator) for _ in range(2))
    target = torch.randint(6, (8,), generator=generator)
    batch = make_batch(target)
    scales, shifts = torch.linspace(0.3, 4, 8)[:, None], torch.linspace(-5, 5, 8)[:, None]
    before, after = (
        objective(Outputs(logits, {}), Outputs(teacher, {}), batch).item()
        for logits in (student, scales * student + shifts)
    )
    return before, after


OBJECTIVES = logit_objectives()


def test_they_are_found():
    names = {kind.__name__ for kind in OBJECTIVES}
    assert {"SoftTargets", "LogitMSE", "Decoupled", "VirtualTeacher"} <= names
    assert "LogitObjective" not in names


# Their confidences in the label are of the logits as they are.
WITH_LABELS = ("Normalized", "WeightedSoftLabels")


@pytest.mark.parametrize(
    "kind", [k for k in OBJECTIVES if k.__name__ not in WITH_LABELS], ids=lambda kind: kind.__name__
)
def test_standardised_the_students_scale_and_shift_play_no_part(kind):
    before, after = values(make(kind, standardise=True))
    assert before > 1e-3
    assert after == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize(
    "kind", [k for k in OBJECTIVES if k.__name__ != "Spherical"], ids=lambda kind: kind.__name__
)
def test_as_they_are_they_do(kind):
    before, after = values(make(kind, standardise=False))
    assert abs(after - before) > 1e-2 * before


def one_hot_teacher():
    """A student and a certain teacher for three images of six classes, and their batch."""
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([0, 3, 5])
    student = torch.randn(3, 6, generator=generator)
    teacher = 20 * torch.nn.functional.one_hot(target, 6).float()
    return Outputs(student, {}), Outputs(teacher, {}), make_batch(target)


def test_a_certain_teacher_stays_certain_of_the_label_when_standardised():
    """WSLD's weight is 1 and NKD's term of the label the cross-entropy, as with plain logits."""
    student, teacher, batch = one_hot_teacher()
    weighted = make(find("WeightedSoftLabels"), standardise=True)(student, teacher, batch)
    plain = make(find("SoftTargets"), standardise=True)(student, teacher, batch)
    assert weighted.item() == pytest.approx(plain.item(), rel=1e-5)
    label = find("Normalized")(gamma=0.0, standardise=True)(student, teacher, batch)
    expected = torch.nn.functional.cross_entropy(student.logits, batch.target)
    assert label.item() == pytest.approx(expected.item(), rel=1e-5)


def find(name):
    return next(kind for kind in OBJECTIVES if kind.__name__ == name)
