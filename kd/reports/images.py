"""Test images by image: what runs predicted, where pairs differ, where they follow the teacher."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from kd.io.predictions import Predictions, read_predictions
from kd.io.run_folder import RunFolder
from kd.reports.mcnemar import Discordant
from kd.reports.runs import Run

# Files of other runs, or of a run that was repeated in the folder, do not agree with result.json.
_TOLERANCE = 1e-5


def predictions_of(run: Run) -> Predictions | None:
    """Return a run's test predictions; None if there are none that belong to its result."""
    if "test/acc" not in run.result:
        return None
    found = _read(RunFolder(run.folder).test_predictions, run.written)
    if found is None or not len(found.labels):
        return None
    accuracy = float((found.student == found.labels).mean())
    return found if abs(accuracy - run.result["test/acc"]) <= _TOLERANCE else None


@lru_cache(maxsize=256)
def _read(path: Path, written: float) -> Predictions | None:
    return read_predictions(path)


def discordant(ours: Run, theirs: Run) -> Discordant | None:
    """Count the images that one of two runs has right; None if their test sets are not the same."""
    first, second = predictions_of(ours), predictions_of(theirs)
    if first is None or second is None or not np.array_equal(first.labels, second.labels):
        return None
    right, other = first.student == first.labels, second.student == second.labels
    return Discordant(int((right & ~other).sum()), int((other & ~right).sum()))


def agreement(run: Run) -> tuple[float | None, float | None] | None:
    """Return the agreement with the teacher where it is right, and where it is wrong.

    Returns:
        Fractions, None for no such image; None if the predictions of one of them are not kept.
    """
    found = predictions_of(run)
    if found is None or found.teacher is None:
        return None
    same, right = found.student == found.teacher, found.teacher == found.labels
    parts = [same[where] for where in (right, ~right)]
    first, second = (float(part.mean()) if len(part) else None for part in parts)
    return first, second
