"""Bounds on files of tensors, checked from their headers before a library loads them."""

import zipfile
from pathlib import Path

from kd.errors import UserError
from kd.io.regular_files import MB, check_regular, open_regular

# Bytes of the header of a safetensors file: names and shapes of 100 000 tensors take 10 MB, the
# names of 21 841 classes 1 MB. Parsing takes several times as much memory.
_MAX_HEADER = 32 * MB
# torch stores tensors uncompressed. What others compress shrinks by a tenth; only a file that is
# made to exhaust memory unpacks to more than this many times its size.
_MAX_RATIO, _ALLOWANCE = 4, 16 * MB
_MAX_MEMBERS = 500_000


def check_safetensors(file: Path) -> None:
    """Check a safetensors file: a regular one, with a header of a sensible size.

    Raises:
        UserError: it is not.
        OSError: it is missing or cannot be read.
    """
    with open_regular(file) as content:
        size = int.from_bytes(content.read(8), "little")
    if size > _MAX_HEADER:
        raise UserError(
            f"{file} is no safetensors file: its header would have {size / MB:.3g} MB, and up to "
            f"{_MAX_HEADER / MB:.3g} MB are accepted"
        )


def check_archive(file: Path) -> None:
    """Check a checkpoint of torch: a regular file that does not unpack to far more than its size.

    Raises:
        UserError: it is no regular file, or a ZIP archive that would exhaust memory.
        OSError: it is missing or cannot be read.
    """
    size = check_regular(file)
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return  # the reader says what is wrong with it
    unpacked = sum(member.file_size for member in members)
    if unpacked > _MAX_RATIO * size + _ALLOWANCE or len(members) > _MAX_MEMBERS:
        raise UserError(
            f"checkpoint {file} has {size / MB:.3g} MB and would unpack to {unpacked / MB:.3g} MB "
            f"in {len(members)} parts, so it is not loaded"
        )
