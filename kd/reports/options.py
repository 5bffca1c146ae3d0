"""Options of `kd.report`, checked before anything is read."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kd.errors import UserError

FORMS = ("figures", "matrix", "latex", "checklist")
MIN_SAMPLES, MAX_SAMPLES = 100, 1_000_000  # fewer give no ends of a 95 % interval


class Options(NamedTuple):
    """What a report is made of.

    Attributes:
        folders: those below which runs are read.
        output: receives the report.
        baseline: see `kd.reports.baseline.matches`; None: the report chooses.
        detect: the difference to tell, a fraction; None: none is asked.
        samples: number of bootstrap resamples.
        seed: of the bootstrap.
        forms: whether each of `FORMS` is made.
    """

    folders: list[Path]
    output: Path
    baseline: str | None
    detect: float | None
    samples: int
    seed: int
    forms: dict[str, bool]


def read_options(configured: Mapping[str, Any]) -> Options:
    """Check the options and convert them.

    Args:
        configured: plain values by key, as in conf/report.yaml.

    Raises:
        UserError: names every mistake.
    """
    if problems := list(_problems(configured)):
        raise UserError("\n  ".join(problems))
    given = (configured["folder"], *configured["folders"])
    folders = [Path(str(folder)) for folder in given if folder is not None]
    if not folders:
        raise UserError("no runs are given: add sweep=FOLDER, or folders=[FOLDER,FOLDER]")
    output, baseline, points = (configured[key] for key in ("output", "baseline", "detect"))
    return Options(
        folders,
        folders[0] / "report" if output is None else Path(str(output)),
        None if baseline is None else str(baseline),
        None if points is None else points / 100,
        **configured["bootstrap"],
        forms={form: configured[form] for form in FORMS},
    )


def _problems(configured: Mapping[str, Any]) -> Iterator[str]:
    folder, folders, output = (configured[key] for key in ("folder", "folders", "output"))
    if folder is not None and not _is_name(folder):
        yield f"sweep={_shown(folder)}: must be one folder; of several, folders=[A,B]"
    if not isinstance(folders, list) or not all(map(_is_name, folders)):
        yield f"folders={_shown(folders)}: must be a list, as [A,B]"
    if output is not None and not _is_name(output):
        yield f"output={_shown(output)}: must be a folder"
    baseline, points = configured["baseline"], configured["detect"]
    if baseline is not None and not _is_name(baseline):
        yield f"baseline={_shown(baseline)}: must be a method, or settings as method=kd,alpha=0.5"
    if points is not None and not (_is_number(points) and 0 < points <= 100):
        yield (
            f"detect={_shown(points)}: must be a difference in points, above 0 and up to 100, "
            "as 0.2"
        )
    yield from _bootstrap_problems(configured["bootstrap"])
    for form in FORMS:
        if not isinstance(configured[form], bool):
            yield f"{form}={_shown(configured[form])}: must be true or false"


def _bootstrap_problems(configured: Any) -> Iterator[str]:
    if not isinstance(configured, Mapping):
        yield (
            f"bootstrap={_shown(configured)}: has the keys samples and seed, as "
            "bootstrap.samples=10000"
        )
        return
    samples, seed = configured["samples"], configured["seed"]
    if type(samples) is not int or not MIN_SAMPLES <= samples <= MAX_SAMPLES:
        bounds = f"from {MIN_SAMPLES} to {MAX_SAMPLES}"
        yield f"bootstrap.samples={_shown(samples)}: must be a whole number {bounds}"
    if type(seed) is not int or seed < 0:
        yield f"bootstrap.seed={_shown(seed)}: must be a whole number ≥ 0"


def _is_name(value: Any) -> bool:
    """Whether a value can be the name of a folder or a method; `2024` and `true` are read so."""
    return isinstance(value, str | int | float) and str(value).strip() != ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _shown(value: Any) -> Any:
    """The value as it stands on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value
