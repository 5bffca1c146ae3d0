"""What standardised logits promise, for every term that reads nothing but logits."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from conftest import make_batch

import kd.objectives
from kd.objectives.base import LogitObjective
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


@pytest.mark.parametrize("kind", OBJECTIVES, ids=lambda kind: kind.__name__)
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
