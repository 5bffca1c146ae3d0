"""Record of the uncertainty of a row's numbers: seeds, test set, paired predictions."""

from typing import NamedTuple

from kd.reports.mcnemar import ImageTest
from kd.reports.power import Needed
from kd.reports.superiority import Superiority


class Uncertainty(NamedTuple):
    """A row beside its baseline; None for what is not known.

    Attributes:
        needed: seeds that tell the difference in question.
        superiority: P(A > B).
        images: McNemar's test.
        agreement: with the teacher where it is right, and where it is wrong; means over seeds.
        test_error: standard error of the accuracy of one net on as many test images, a fraction.
    """

    needed: Needed | None = None
    superiority: Superiority | None = None
    images: ImageTest | None = None
    agreement: tuple[float | None, float | None] | None = None
    test_error: float | None = None
