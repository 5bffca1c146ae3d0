"""Assessment of what rows can and cannot tell: power, P(A > B), images, the test set's error."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean
from typing import NamedTuple

from kd.reports.images import agreement, discordant
from kd.reports.mcnemar import ImageTest, image_test
from kd.reports.power import seeds_needed
from kd.reports.rows import Row
from kd.reports.statistics import LEVEL
from kd.reports.superiority import superiority
from kd.reports.uncertainty import Uncertainty


class Question(NamedTuple):
    """What a report is asked.

    Attributes:
        detect: the difference to tell, a fraction; None: none is asked.
        samples: number of bootstrap resamples.
        seed: of the bootstrap.
        comparisons: number of tested comparisons in the report.
    """

    detect: float | None
    samples: int
    seed: int
    comparisons: int


def assess(row: Row, baseline: Row, question: Question) -> Uncertainty:
    """Return what a row's runs tell beside those of its group's baseline."""
    found = Uncertainty(agreement=_agreement(row), test_error=test_error(row))
    if row.comparison is None:
        return found
    differences, detect = row.comparison.differences, question.detect
    # The verdict uses Holm's correction; Bonferroni's level is what its first step asks for.
    level = LEVEL / max(question.comparisons, 1)
    return found._replace(
        needed=None if detect is None else seeds_needed(differences, detect, level),
        superiority=superiority(differences, question.samples, question.seed),
        images=_images(row, baseline),
    )


def test_error(row: Row) -> float | None:
    """Return √(p(1−p)/N) of a mean accuracy p on N test images; None for mAP, or if N is unknown.

    It is the standard deviation that other test sets of this size would add: no number of seeds
    makes it smaller.
    """
    counts = row.values("test/images")
    if row.figure.key != "acc" or not counts or min(counts) < 1:
        return None
    return sqrt(row.score * (1 - row.score) / min(counts))


def _images(row: Row, baseline: Row) -> ImageTest | None:
    common = sorted(row.runs.keys() & baseline.runs.keys())
    pairs = [discordant(row.runs[seed], baseline.runs[seed]) for seed in common]
    known = [pair for pair in pairs if pair is not None]
    return image_test(known) if len(known) == len(pairs) else None


def _agreement(row: Row) -> tuple[float | None, float | None] | None:
    found = [agreement(row.runs[seed]) for seed in sorted(row.runs)]
    known = [pair for pair in found if pair is not None]
    if not known or len(known) < len(found):
        return None
    return _mean([pair[0] for pair in known]), _mean([pair[1] for pair in known])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
