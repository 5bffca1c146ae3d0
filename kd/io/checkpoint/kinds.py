"""Recognition of a file's kind by its first bytes, and the remedy where it holds no weights."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kd.errors import UserError
from kd.io.checkpoint.containers import is_main, starts_pickle
from kd.io.printable import printable
from kd.io.regular_files import open_regular

_HEAD = 4096  # bytes that are looked at


class Kind(NamedTuple):
    """A kind of file that holds no weights for this program.

    Attributes:
        name: completes "FILE is …".
        remedy: what to do, with `{file}` for the path.
    """

    name: str
    remedy: str


def _packed(name: str, command: str) -> Kind:
    to = " > weights.pt" if command.endswith("-c") else ""
    return Kind(name, f"unpack it first: {command} {{file}}{to}")


_EXPORT_AGAIN = (
    "such a file holds a graph for inference; save the weights of the net that it was made from: "
    "torch.save(net.state_dict(), 'weights.pt')"
)
_NUMPY_REMEDY = (
    "convert it: torch.save({{k: torch.from_numpy(v) for k, v in numpy.load({file!r}).items()}}, "
    "'weights.pt')"
)
_NO_WEIGHTS = "name the file of the weights instead"

# First bytes of a file, from https://en.wikipedia.org/wiki/List_of_file_signatures and the formats'
# own pages
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x1f\x8b", _packed("packed with gzip", "gunzip -c")),
    (0, b"BZh", _packed("packed with bzip2", "bunzip2 -c")),
    (0, b"\xfd7zXZ\x00", _packed("packed with xz", "unxz -c")),
    (0, b"\x28\xb5\x2f\xfd", _packed("packed with zstd", "unzstd -c")),
    (0, b"\x04\x22\x4d\x18", _packed("packed with lz4", "unlz4 -c")),
    (0, b"7z\xbc\xaf\x27\x1c", _packed("a 7-Zip archive", "7z x")),
    (0, b"Rar!\x1a\x07", _packed("a RAR archive", "unrar x")),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        Kind(
            "an HDF5 file, as Keras and TensorFlow write it",
            "load it there, and save each array by the name of the PyTorch weight with "
            "numpy.savez; then convert that file",
        ),
    ),
    (0, b"GGUF", Kind("a GGUF file of llama.cpp, with quantised weights", _EXPORT_AGAIN)),
    (4, b"TFL3", Kind("a TensorFlow Lite model", _EXPORT_AGAIN)),
    (0, b"\x93NUMPY", Kind("one NumPy array, without names", _NO_WEIGHTS)),
    (0, b"SQLite format 3\x00", Kind("an SQLite database", _NO_WEIGHTS)),
    (0, b"PAR1", Kind("a Parquet table", _NO_WEIGHTS)),
    (0, b"MATLAB ", Kind("a MATLAB file", "convert it with scipy.io.loadmat and torch.save")),
    (0, b"\x89PNG", Kind("a PNG image", _NO_WEIGHTS)),
    (0, b"\xff\xd8\xff", Kind("a JPEG image", _NO_WEIGHTS)),
    (0, b"GIF8", Kind("a GIF image", _NO_WEIGHTS)),
    (0, b"BM", Kind("a BMP image", _NO_WEIGHTS)),
    (0, b"RIFF", Kind("a RIFF file, such as a WebP image or WAV sound", _NO_WEIGHTS)),
    (0, b"II*\x00", Kind("a TIFF image", _NO_WEIGHTS)),
    (0, b"MM\x00*", Kind("a TIFF image", _NO_WEIGHTS)),
    (0, b"%PDF", Kind("a PDF document", _NO_WEIGHTS)),
    (0, b"\x7fELF", Kind("a program or library", _NO_WEIGHTS)),
    (0, b"MZ", Kind("a Windows program", _NO_WEIGHTS)),
    # Protocol buffers have no signature. Both begin with a version number; SavedModel's is 1, and
    # ONNX has been at 3 or above since its first release.
    (0, b"\x08\x01\x12", Kind("a TensorFlow SavedModel", _EXPORT_AGAIN)),
    *((0, bytes((8, v, t)), Kind("an ONNX model", _EXPORT_AGAIN)) for v in range(3, 32) for t in
      (0x12, 0x1A, 0x22, 0x2A, 0x3A, 0x42)),
)  # fmt: skip

_TEXTS: tuple[tuple[str, Kind], ...] = (
    (
        "version https://git-lfs",
        Kind("a pointer of Git LFS, and not the file itself", "fetch it: git lfs pull"),
    ),
    (
        "/annex/objects",
        Kind("a pointer of git-annex, and not the file itself", "fetch it: git annex get {file}"),
    ),
    ("<!doctype html", Kind("a web page (HTML)", "")),
    ("<html", Kind("a web page (HTML)", "")),
    ("<?xml", Kind("an XML document, such as the error message of a storage server", "")),
)
_DOWNLOAD = (
    "download the file itself: the link for that is often called 'raw' or 'download', and a "
    "private one needs a login"
)


def torch_format(file: Path) -> str:
    """Return `safetensors`, `archive` or `pickle`: the formats that weights are read from.

    Args:
        file: a regular file.

    Raises:
        UserError: the file is of another kind, which is named with the remedy.
        OSError: it cannot be read.
    """
    with open_regular(file) as opened:
        head = opened.read(_HEAD)
    for name, test in _FORMATS.items():
        if test(file, head):
            return name
    kind = _archive_kind(file) if head[:4] == b"PK\x03\x04" else _kind(file, head)
    remedy = kind.remedy.format(file=str(file)) or _DOWNLOAD
    raise UserError(f"{file} is {kind.name}; {remedy}")


def is_safetensors(file: Path) -> bool:
    """Return whether a file is one of safetensors, by its first bytes.

    Raises:
        UserError: it is no regular file.
        OSError: it cannot be read.
    """
    with open_regular(file) as opened:
        return _is_safetensors(file, opened.read(9))


def _is_safetensors(file: Path, head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= file.stat().st_size


def _is_torch_archive(file: Path, head: bytes) -> bool:
    if head[:4] != b"PK\x03\x04":
        return False
    try:
        return any(map(is_main, zipfile.ZipFile(file).namelist()))
    except (zipfile.BadZipFile, ValueError, OverflowError):
        # `torch.save` writes data.pkl first; the directory, at the end of the file, is missing.
        return b"data.pkl" in head[:256]


_FORMATS: dict[str, Callable[[Path, bytes], bool]] = {
    "safetensors": _is_safetensors,
    "archive": _is_torch_archive,
    "pickle": lambda _, head: starts_pickle(head),
}


def _archive_kind(file: Path) -> Kind:
    try:
        names = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, ValueError, OverflowError) as error:
        return Kind(f"a damaged zip archive ({error})", "copy or download it again")
    if any("/data/weights/" in name or name.endswith("serialized_state_dict.pt") for name in names):
        line = "torch.save(torch.export.load({file!r}).state_dict, 'weights.pt')"
        return Kind("a program of torch.export", f"convert it: {line}")
    if any(name.endswith(".weights.h5") for name in names):
        return Kind("a Keras model", "load it in Keras, and save its arrays with numpy.savez")
    if names and all(name.endswith(".npy") for name in names):
        return Kind("an archive of NumPy arrays", _NUMPY_REMEDY)
    within = [name for name in names if name.endswith((".pt", ".pth", ".bin", ".safetensors"))]
    listed = printable(", ".join((within or names)[:4]))
    return Kind(f"a zip archive of {listed or 'nothing'}", "unpack it first: unzip {file}")


def _kind(file: Path, head: bytes) -> Kind:
    """The kind of a file that is none of torch's."""
    if not head:
        return Kind("empty (0 bytes)", "copy or download it again")
    if not head.strip(b"\0"):
        return Kind(f"nothing but zeros, {file.stat().st_size} bytes", "copy or download it again")
    for place, signature, kind in _SIGNATURES:
        if head[place : place + len(signature)] == signature:
            return kind
    if head[257:262] == b"ustar" or head[508:512] == head[100:104] == b"0000":
        return _packed("a tar archive", "tar xf")
    return _text(head) or Kind(
        f"damaged or of an unknown format ({file.stat().st_size} bytes, the first are "
        f"{head[:8].hex(' ')})",
        "save the net's weights with torch.save(net.state_dict(), 'weights.pt')",
    )


def _text(head: bytes) -> Kind | None:
    """The kind of a text; None for other files."""
    try:
        text = head[: _HEAD - 4].decode().lstrip("\ufeff").lstrip()
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text):
        return None
    for start, kind in _TEXTS:
        if start in text[:200].lower():
            return kind
    if text[:1] in ("{", "["):
        return Kind(f"a JSON file{_keys(head)}", _NO_WEIGHTS)
    line = text.split("\n")[0][:60]
    return Kind(f"a text, which begins {line!r}", _NO_WEIGHTS)


def _keys(head: bytes) -> str:
    try:
        content = json.loads(head)
    except ValueError:
        return ""
    names = ", ".join(list(content)[:4]) if isinstance(content, dict) else ""
    return f" with the keys {printable(names[:120])}" if names else ""
