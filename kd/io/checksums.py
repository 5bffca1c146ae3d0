"""JSON objects with a checksum of the rest, so that a flipped bit is noticed and not believed."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

_SEAL = "checksum"


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum."""
    rest = {key: value for key, value in content.items() if key != _SEAL}
    return rest | {_SEAL: _checksum(rest)}


def is_intact(content: Mapping[str, Any]) -> bool:
    """Whether the checksum is that of the rest; True where there is none."""
    rest = {key: value for key, value in content.items() if key != _SEAL}
    return _SEAL not in content or content[_SEAL] == _checksum(rest)


def _checksum(content: Mapping[str, Any]) -> str:
    # written and read again, as a tuple comes back as a list
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"
