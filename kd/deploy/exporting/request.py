"""The settings of one export."""

from dataclasses import dataclass
from pathlib import Path

from kd.deploy.exporting.description import Precision


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        format: a name in `formats.FORMATS`.
        precision: of weights and arithmetic.
        output: the file; None: `export/` in the run's folder.
        max_drop: the most accuracy that the file may lose, in points.
        max_test_drop: the same for the comparison on the test set, which is not to select where
            validation judges the file; None: `max_drop`.
        force: write it even if the comparison does not hold.
        calibration_images: training images behind the ranges of int8 activations.
        latency: measure it.
        command: as typed, for the sheet.
    """

    format: str
    precision: Precision
    output: Path | None = None
    max_drop: float = 0.5
    max_test_drop: float | None = None
    force: bool = False
    calibration_images: int = 512
    latency: bool = True
    command: str = ""
