"""JSON files with a checksum: written atomically, rejected when damaged or edited.

The checksum is the CRC-32 of the other keys, which detects a flipped bit and a value changed by
hand; it does not protect against forgery.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.documents import read_json

_KEY = "checksum"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object and its checksum.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomic(path, (json.dumps(with_checksum(content), indent=2) + "\n").encode())


def read_intact(path: Path) -> dict[str, Any] | None:
    """Read an object; None for a file that is missing, is no JSON object, or is damaged."""
    try:
        content = read_json(path)
    except (OSError, UserError):
        return None
    return content if isinstance(content, dict) and is_intact(content) else None


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with its checksum.

    Example:
        >>> is_intact(with_checksum({"test/acc": 0.9}))
        True
        >>> is_intact(with_checksum({"test/acc": 0.9}) | {"test/acc": 0.99})
        False
    """
    rest = {key: value for key, value in content.items() if key != _KEY}
    return rest | {_KEY: _checksum(rest)}


def is_intact(content: Mapping[str, Any]) -> bool:
    """Return whether the checksum matches the other keys; True for content without one."""
    rest = {key: value for key, value in content.items() if key != _KEY}
    return _KEY not in content or content[_KEY] == _checksum(rest)


def _checksum(content: Mapping[str, Any]) -> str:
    # Encoded twice: JSON turns tuples into lists and integer keys into strings, so only decoded
    # content hashes to the value that a reader computes.
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"
