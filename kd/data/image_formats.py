"""Image file formats of an image folder, recognised by name and by content."""

from pathlib import PurePath

# Names of Pillow's readers. The others stay shut: EPS starts Ghostscript, and most have had no
# review for files of unknown origin (https://pillow.readthedocs.io/en/stable/handbook/security.html).
READERS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib"),
        *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
NAMES = "PNG, JPEG, WebP, BMP, TIFF, GIF or PNM"

_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\x00", b"MM\x00*")
# First bytes of what lies under the name of an image most often, and is none of `READERS`
_OTHERS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"PK\x03\x04": "a zip file",
    b"\x1f\x8b": "a gzip file",
    b"\x00\x00\x01\x00": "an icon",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL": "JPEG XL",
    b"version https://git-lfs": "a pointer of Git LFS (run `git lfs pull`)",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<": "HTML or XML",
}
_BOXES = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}


def is_image_name(name: str) -> bool:
    """Return whether a file is taken for an image: a known suffix, in any case, or none at all.

    Example:
        >>> [is_image_name(name) for name in ("a.JFIF", "n01440764_1", "notes.txt")]
        [True, True, False]
    """
    suffix = PurePath(name).suffix.lower()
    return suffix in SUFFIXES or not suffix


def starts_as_image(head: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of one of `READERS`.

    Example:
        >>> starts_as_image(b"GIF89a......"), starts_as_image(b"Some notes..")
        (True, False)
    """
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    pnm = head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    return riff or pnm or head.startswith(_FIRST_BYTES)


def foreign_kind(head: bytes) -> str:
    """Name the kind of a file that no reader takes; "" if it is unknown.

    Args:
        head: its first bytes, 32 or more.

    Example:
        >>> foreign_kind(b"%PDF-1.7")
        'PDF'
    """
    if head[4:8] == b"ftyp":
        return _BOXES.get(head[8:12], "a video or an image in an MP4 container")
    start = head.lstrip().lower() if head.lstrip()[:1] == b"<" else head
    return next((kind for first, kind in _OTHERS.items() if start.startswith(first)), "")
