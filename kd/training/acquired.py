"""The trained teacher of a run, with the origin of its weights and its test figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kd.teachers.base import Teacher


@dataclass(frozen=True)
class AcquiredTeacher:
    """A teacher with its trained weights, and what is known about it.

    Attributes:
        teacher: frozen, live or cached.
        test_logits: on the test set in its order [N, K], float32, on the CPU; None: the task is no
            classification, or the teacher has other classes than the data.
        test_figures: figures of the test set, by name; `acc` of a classifier, in [0, 1]. None of a
            teacher with other classes.
        source: origin of the weights, as `teacher/source` of result.json.
        weights_hash: of the weights, as `teacher/weights_hash` of result.json.
        recipe_hash: of the run that trained it, as `teacher/recipe_hash` of result.json.
        seconds: spent in training it within this run.
        members: test accuracy by member, for an ensemble.
        classes: entries of result.json about a class map, or about other classes.
    """

    teacher: Teacher
    test_logits: Tensor | None
    test_figures: Mapping[str, float]
    source: str
    weights_hash: str | list[str]
    recipe_hash: str | list[str | None] | None
    seconds: float
    members: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_other_classes(self) -> bool:
        """Whether its logits are about other classes than the data's."""
        return self.classes.get("teacher/classes", ...) is None
