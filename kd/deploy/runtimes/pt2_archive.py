"""Archives of torch.export (.pt2): read as data, and written again from what was checked."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from kd.deploy.exporting.description import KEY
from kd.deploy.runtimes.program_check import (
    checked_program,
    checked_tensor,
    is_path,
    needed_bytes,
)
from kd.errors import UserError
from kd.io.documents import parse_json
from kd.io.regular_files import read_bytes

MAX_BYTES = 4 * 10**9
_MAX_JSON = 64_000_000  # characters; the graph of a DenseNet-121 has 1 million
_MAX_MEMBERS = 100_000
_MODEL, _INPUTS = "models/model.json", "data/sample_inputs/model.pt"
# Tensors by name: their config, and the files of raw numbers that it may name
_TENSORS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d{1,6}"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d{1,6}"),
}
_VERSION, _ORDER = "archive_version", "byteorder"
_MEMBER = re.compile(
    rf"data/weights/(weight_\d{{1,6}}|model_weights_config\.json)|{_MODEL}|{_INPUTS}"
    r"|data/constants/(tensor_\d{1,6}|model_constants_config\.json)|extra/[\w.-]{1,100}"
    rf"|archive_format|{_VERSION}|{_ORDER}|\.data/(version|serialization_id)"
)


class Archive(NamedTuple):
    """A checked archive.

    Attributes:
        content: a new archive for torch.export.load, which has nothing but checked parts; its
            example inputs, a pickle, are left out.
        description: the text under `extra/kd`; None: there is none.
        schema: major version of torch's file format.
    """

    content: bytes
    description: str | None
    schema: int


def read_archive(path: Path) -> Archive:
    """Read an archive; nothing of it is unpickled or evaluated.

    Raises:
        UserError: it is no archive of one exported classifier with raw weights.
        OSError: it is missing or cannot be read.
    """
    content = read_bytes(path, MAX_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _checked(_members(archive, len(content)))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, RecursionError, EOFError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path} is no model of torch.export as kd.export writes it: {why}; nothing of it was "
            "loaded"
        ) from None


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    """Return the files of the archive by their path below its root."""
    found = archive.infolist()
    if len(found) > _MAX_MEMBERS or sum(member.file_size for member in found) > size:
        raise ValueError("it unpacks to more than its size")
    members: dict[str, bytes] = {}
    for member in found:
        name = member.filename.partition("/")[2]
        if member.compress_type != zipfile.ZIP_STORED or name in members:
            raise ValueError(f"its part {name!r:.60} is compressed or there twice")
        if not _MEMBER.fullmatch(name):
            raise ValueError(f"it holds {name!r:.60}, which could run code")
        members[name] = archive.read(member)
    return members


def _checked(members: dict[str, bytes]) -> Archive:
    if members[_ORDER] != b"little":
        raise ValueError("its numbers are not in little-endian order")
    program = checked_program(_json(members[_MODEL]))
    kept = {_MODEL: json.dumps(program).encode(), _INPUTS: b""}
    for config, pattern in _TENSORS.items():
        entries = _json(members[config])["config"]
        checked = {name: _entry(name, value, pattern) for name, value in entries.items()}
        folder = config.rpartition("/")[0]
        for name, entry in checked.items():
            part = f"{folder}/{entry['path_name']}"
            kept[part] = members[part]
            if needed_bytes(entry["tensor_meta"]) > len(members[part]):
                raise ValueError(f"{name} is cut off")
        kept[config] = json.dumps({"config": checked}).encode()
    for name in (_VERSION, _ORDER, "archive_format", ".data/version"):
        kept[name] = members[name]
    text = members.get(f"extra/{KEY}")
    description = None if text is None else text.decode()
    return Archive(_zip(kept), description, program["schema_version"]["major"])


def _entry(name: Any, value: Any, pattern: re.Pattern[str]) -> dict[str, Any]:
    if not is_path(name) or not isinstance(value, dict):
        raise ValueError(f"{name!r:.60} is no name of a parameter")
    if value.get("use_pickle") is not False:
        raise ValueError(f"{name} is pickled, which could run code")
    if not pattern.fullmatch(str(value.get("path_name"))):
        raise ValueError(f"{name} lies in {value.get('path_name')!r:.60}")
    return {
        "path_name": value["path_name"],
        "is_param": value.get("is_param") is True,
        "use_pickle": False,
        "tensor_meta": checked_tensor(value.get("tensor_meta")),
    }


def _json(content: bytes) -> Any:
    if len(content) > _MAX_JSON:
        raise ValueError(f"its graph has more than {_MAX_JSON} characters")
    return parse_json(content.decode())


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()
