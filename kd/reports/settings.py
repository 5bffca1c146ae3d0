"""Settings of a run, read from its recorded config as flat `key: value` pairs."""

import json
import re
from functools import cache
from typing import Any

from kd.config.experiment import NO_PART_OF_NUMBERS, numeric_part
from kd.config.flat import flatten
from kd.errors import UserError
from kd.io.documents import parse_yaml

Settings = dict[str, Any]
ROLES = ("method", "teacher", "student", "mode", "data")

# Rows are equal up to the seed; the rest changes no number.
_IGNORED = {*NO_PART_OF_NUMBERS, "seed"}
_NAMES = {f"{role}.name" for role in ROLES}  # equal to the roles themselves
# A top-level key starts a section of the file. Hydra writes list items below a top-level key
# without indentation, so a line with "-" starts none.
_SECTION = re.compile(r"^(?=[^\s#-])", re.MULTILINE)


def read_settings(text: str, teacherless: bool, recognised: bool = False) -> Settings:
    """Parse a run's `config.yaml` into settings, named as on the command line.

    Interpolations stay unresolved: `data.seed: ${seed}` is then equal for all seeds.

    Args:
        text: content of the file.
        teacherless: leave out the teacher's settings, of a run that had no teacher.
        recognised: leave out paths of data and weights, of a run that recorded fingerprints.

    Raises:
        UserError: the text is not a config of plain values.
    """
    found: Settings = {}
    for section in _SECTION.split(text):
        found.update(_flat_section(section, recognised))
    ignored = _IGNORED | ({"teacher"} if teacherless else set())
    return {k: v for k, v in found.items() if not _is_ignored(k, ignored)}


def of_taps(key: str) -> bool:
    """Return whether a setting names what a method reads of a net, which changes no net.

    Example:
        >>> of_taps("student.taps.flat"), of_taps("student.net.width")
        (True, False)
    """
    return re.match(r"(student|teacher)\.taps(\.|$)", key) is not None


def _is_ignored(key: str, groups: set[str]) -> bool:
    return key.split(".", 1)[0] in groups or key in _NAMES


@cache
def _flat_section(text: str, recognised: bool) -> tuple[tuple[str, Any], ...]:
    """Parse one section; most are equal in all runs of a sweep, and the cache parses them once."""
    content = parse_yaml(text)
    if not isinstance(content, dict | None):
        raise UserError(f"not a mapping of settings: {text[:40]!r}")
    numeric = {k: numeric_part(k, v, recognised) for k, v in (content or {}).items()}
    return tuple((key, _hashable(value)) for key, value in flatten(numeric) if value != {})


def _hashable(value: Any) -> Any:
    """Make a value hashable, and equal for equal settings: 4 and 4.0 are, 1 and true are not."""
    if isinstance(value, bool | list) or value is None:
        return json.dumps(value)
    return value
