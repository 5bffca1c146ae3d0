"""Reading of COCO's annotation files, with all mistakes of a file at once.

A file has three lists: `images` (id, file_name, width, height), `categories` (id, name) and
`annotations` (id, image_id, category_id, bbox as x, y, width, height); see
https://cocodataset.org/#format-data.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.data.left_out import printable
from kd.errors import UserError
from kd.io.documents import read_json

MAX_BYTES = 2 * 10**9  # COCO's largest, instances_train2017.json, has 0.45 GB
_LISTS = ("images", "categories", "annotations")
_NAMED = 10  # mistakes in a message
_THIN = 1e-6  # of the image's side; the corners of a thinner box may coincide as float32
_ROUNDING = 1.0  # pixels by which a box may leave its image; it is cut to the image


class CocoImage(NamedTuple):
    """One image: path below the folder of images, size in pixels, and its boxes.

    `rows` are (class, x1, y1, x2, y2) [m, 5]; the class is a position in `CocoFile.class_names`.
    """

    name: str
    width: int
    height: int
    rows: NDArray[np.float32]


class CocoFile(NamedTuple):
    """Content of an annotation file.

    Attributes:
        class_names: of the categories in the order of their ids.
        images: in the order of the file; those without boxes as well.
        crowds: number of annotations left out because they mark a crowd.
        dropped: boxes that are left out because they are outside their image or empty, in words.
    """

    class_names: list[str]
    images: list[CocoImage]
    crowds: int
    dropped: list[str]


def read_coco(path: Path, known: list[str] | None = None, drop: bool = False) -> CocoFile:
    """Read an annotation file.

    Args:
        path: the file.
        known: class names of the training file, which the categories are matched with by name;
            None: this is the training file.
        drop: leave boxes out that are outside their image or empty, instead of refusing the file.

    Raises:
        UserError: the file cannot be read, or has mistakes: ids that are missing, double or
            dangling, boxes outside their image or without area. Names the first ten.
    """
    try:
        content = read_json(path, MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in _LISTS
    ):
        raise UserError(f"{path} is no COCO file: it has no lists {', '.join(_LISTS)}")
    reader = _Reader(content)
    found = reader.read(known, drop)
    if reader.problems:
        shown = "\n- ".join(reader.problems[:_NAMED])
        more = len(reader.problems) - _NAMED
        raise UserError(f"{path}:\n- {shown}" + (f"\n- and {more} more" if more > 0 else ""))
    return found


class _Reader:
    """Checks the three lists, one after the other, and collects what is wrong."""

    def __init__(self, content: Mapping[str, list[Any]]) -> None:
        self.content = content
        self.problems: list[str] = []
        self.dropped: list[str] = []
        self.seen: dict[str, set[int]] = {}

    def read(self, known: list[str] | None, drop: bool) -> CocoFile:
        names, labels = self._categories(known)
        images = self._images()
        rows: dict[Any, list[list[float]]] = {key: [] for key in images}
        crowds = 0
        for key, entry in self._by_id("annotations", "annotation").items():
            if (crowd := entry.get("iscrowd", 0)) not in (0, 1):
                self._add("annotation", key, f"iscrowd must be 0 or 1, got {crowd!r}")
            elif crowd:
                crowds += 1
            elif (image := images.get(_whole(entry.get("image_id")))) is None:
                self._dangling(key, entry, "image")
            elif (label := labels.get(_whole(entry.get("category_id")))) is None:
                self._dangling(key, entry, "category")
            elif box := self._box(key, entry.get("bbox"), image, drop):
                rows[_whole(entry["image_id"])].append([label, *box])
        found = [
            image._replace(rows=np.array(rows[key], dtype=np.float32).reshape(-1, 5))
            for key, image in images.items()
        ]
        return CocoFile(names, found, crowds, self.dropped)

    def _add(self, kind: str, key: object, what: str) -> None:
        self.problems.append(f"{kind} {key}: {printable(what)}")

    def _dangling(self, key: int, entry: Mapping[str, Any], kind: str) -> None:
        found = entry.get(f"{kind}_id")
        # An entry that is wrong itself has been named already.
        if _whole(found) is None or _whole(found) not in self.seen[kind]:
            self._add("annotation", key, f"{kind}_id {found!r} is no {kind}'s id")

    def _by_id(self, name: str, kind: str) -> dict[int, Mapping[str, Any]]:
        """The entries of a list by their ids."""
        found: dict[int, Mapping[str, Any]] = {}
        for number, entry in enumerate(self.content[name]):
            key = _whole(entry.get("id")) if isinstance(entry, Mapping) else None
            if key is None:
                self.problems.append(f"{name}[{number}] has no whole number as its id")
            elif key in found:
                self._add(kind, key, "the id is used twice")
            else:
                found[key] = entry
        self.seen[kind] = {*found}
        return found

    def _categories(self, known: list[str] | None) -> tuple[list[str], dict[Any, int]]:
        entries = sorted(self._by_id("categories", "category").items())
        given = {key: entry.get("name") for key, entry in entries}
        named = {key: str(name) for key, name in given.items() if _is_name(name)}
        for key, _ in entries:
            if key not in named:
                self._add("category", key, "it has no name")
        names = list(named.values()) if known is None else known
        for key, name in named.items():
            if known is None and names.count(name) > 1:
                self._add("category", key, f"the name {name!r} is used twice")
            elif name not in names:
                self._add("category", key, f"the training file has no category {name!r}")
        if not entries:
            self.problems.append("categories is empty")
        places = {name: place for place, name in enumerate(names)}
        return names, {key: places[name] for key, name in named.items() if name in places}

    def _images(self) -> dict[Any, CocoImage]:
        found: dict[Any, CocoImage] = {}
        names: dict[str, int] = {}
        for key, entry in self._by_id("images", "image").items():
            name, sizes = entry.get("file_name"), [entry.get("width"), entry.get("height")]
            width, height = (_whole(size) for size in sizes)
            if not isinstance(name, str) or not _is_name(name):
                self._add("image", key, "it has no file_name")
            elif (other := names.setdefault(name, key)) != key:
                self._add("image", key, f"file_name {name!r} is that of image {other} as well")
            elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                self._add("image", key, f"file_name {name!r} leads out of the folder of images")
            elif not width or not height or min(width, height) < 1:
                self._add("image", key, f"width and height must be whole numbers ≥ 1, got {sizes}")
            else:
                found[key] = CocoImage(name, width, height, np.zeros((0, 5), np.float32))
        if not self.content["images"]:
            self.problems.append("images is empty")
        return found

    def _box(self, key: int, bbox: Any, image: CocoImage, drop: bool) -> list[float] | None:
        """Corners of a box, cut to its image; None: it is wrong."""
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
            self._add("annotation", key, f"bbox must be four numbers, got {bbox!r}")
            return None
        x, y, width, height = bbox
        size = f"{image.width} x {image.height} pixels of image {image.name!r}"
        beyond = max(-x, -y, x + width - image.width, y + height - image.height)
        cut = [max(x, 0), max(y, 0), min(x + width, image.width), min(y + height, image.height)]
        what = ""
        if width <= _THIN * image.width or height <= _THIN * image.height:
            what = f"bbox {bbox} has no area"
        elif beyond > _ROUNDING or cut[0] >= cut[2] or cut[1] >= cut[3]:
            what = f"bbox {bbox} is not within the {size}"
        if not what:
            return cut
        if drop:
            self.dropped.append(f"annotation {key}: {printable(what)}")
        else:
            self._add("annotation", key, f"{what}; correct it, or set data.bad_boxes=drop")
        return None


def _whole(value: object) -> Any:
    """A whole number; None for anything else. 3.0 counts, as some tools write ids."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_name(value: object) -> bool:
    """Whether a value can be a file's or class's name: not blank, and UTF-8 can write it."""
    text = str(value) if isinstance(value, str | int) else ""
    return bool(text.strip()) and not re.search("[\0\ud800-\udfff]", text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def scaled_rows(image: CocoImage, size: int) -> Iterator[list[float]]:
    """Rows of an image in the pixels of its letterbox; see `kd.data.decode.letterbox_size`.

    Example:
        >>> image = CocoImage("a.png", 200, 100, np.array([[1, 0, 0, 100, 50]], np.float32))
        >>> list(scaled_rows(image, 50))
        [[1.0, 0.0, 0.0, 25.0, 12.5]]
    """
    from kd.data.decode import letterbox_size

    width, height = letterbox_size((image.width, image.height), size)
    across, down = width / image.width, height / image.height
    for label, x1, y1, x2, y2 in image.rows.tolist():
        yield [label, x1 * across, y1 * down, x2 * across, y2 * down]
