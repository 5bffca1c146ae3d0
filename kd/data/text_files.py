"""Labelled texts from tables (CSV, TSV, JSON lines) and folders of .txt files."""

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kd.data.layout import visible_folders
from kd.data.left_out import printable
from kd.data.split_folders import SPLITS, find_splits
from kd.data.tokenise import whole_characters
from kd.errors import UserError, nearest

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
TABLES = (*DELIMITERS, *JSON_LINES)
MAX_FIELD = 10_000_000  # characters of a field; csv stops at 131 072 by default


class Document(NamedTuple):
    """A text, its label, and where it was read: the file, and the line of a table."""

    text: str
    label: str
    place: str


class Columns(NamedTuple):
    """How tables are read.

    Attributes:
        text: name of the column of texts.
        label: name of the column of labels.
        encoding: of tables and .txt files.
    """

    text: str = "text"
    label: str = "label"
    encoding: str = "utf-8"


Splits = dict[str, list[Document]]


def source_files(root: Path) -> dict[str, list[Path]]:
    """Return the files of each split: `train` alone where the data have no split of their own.

    Raises:
        UserError: the root is no table, and no folder of tables or of classes.
    """
    if root.is_file():
        _check_table(root)
        return {"train": [root]}
    if not root.is_dir():
        raise UserError(f"data.root={root} is neither a file nor a folder")
    tables = find_splits(path.stem for path in root.iterdir() if path.suffix.lower() in TABLES)
    if "train" in tables.folders:
        return {split: [_table(root, stem)] for split, stem in tables.folders.items()}
    folders = find_splits(visible_folders(root)).folders
    if "train" in folders and visible_folders(root / folders["train"]):
        return {split: _texts(root / folders[split]) for split in SPLITS if split in folders}
    return {"train": _texts(root)}


def _table(root: Path, stem: str) -> Path:
    found = sorted(p for p in root.iterdir() if p.stem == stem and p.suffix.lower() in TABLES)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"data.root={root} has {names}: keep one table for each split")
    return found[0]


def _check_table(path: Path) -> None:
    if path.suffix.lower() not in TABLES:
        raise UserError(
            f"data.root={path}: {path.suffix or 'a file without a suffix'} is no table of texts; "
            f"{nearest(path.suffix, TABLES)}"
        )


def _texts(folder: Path) -> list[Path]:
    """The .txt files of the class folders, in order.

    Raises:
        UserError: there are no class folders with such files.
    """
    classes = sorted(visible_folders(folder))
    found = [sorted((folder / name).rglob("*.txt")) for name in classes]
    if empty := [name for name, files in zip(classes, found, strict=True) if not files]:
        raise UserError(f"{folder / empty[0]} has no .txt file; each class is a folder of them")
    if not found:
        raise UserError(
            f"{folder} has no folder of a class with .txt files, and no table train{TABLES[0]}"
        )
    return [path for files in found for path in files]


def read_texts(root: Path, columns: Columns) -> Splits:
    """Read all texts of each split.

    Raises:
        UserError: a file cannot be read as text, or a column is missing.
    """
    return {
        split: [document for path in files for document in _read(path, root, columns)]
        for split, files in source_files(root).items()
    }


def _read(path: Path, root: Path, columns: Columns) -> Iterator[Document]:
    content = _decoded(path, columns.encoding)
    if path.suffix.lower() in TABLES and not content.strip():
        raise UserError(f"{path} is empty; a table has columns such as {columns.text!r}")
    if path.suffix.lower() in DELIMITERS:
        yield from _delimited(path, content, columns)
    elif path.suffix.lower() in JSON_LINES:
        yield from _json_lines(path, content, columns)
    else:
        yield Document(content, _class_of(path, root), str(path))


def _class_of(path: Path, root: Path) -> str:
    """Name of the class folder: the first below the root, or below that of the split."""
    parts = path.relative_to(root).parts
    return parts[1] if find_splits(parts[:1]).folders and len(parts) > 2 else parts[0]


def _decoded(path: Path, encoding: str) -> str:
    try:
        content = path.read_bytes()
        return content.decode(markless(encoding))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(
            f"{path}, line {line}: the byte 0x{byte:02x} is no {encoding}; give the file's own, as "
            "data.encoding=cp1252, or save it as UTF-8"
        ) from None


def markless(encoding: str) -> str:
    """Return the encoding that takes a byte-order mark, which spreadsheets write, for no text.

    Example:
        >>> markless("UTF8"), markless("cp1252")
        ('utf-8-sig', 'cp1252')
    """
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _delimited(path: Path, content: str, columns: Columns) -> Iterator[Document]:
    csv.field_size_limit(MAX_FIELD)
    delimiter = DELIMITERS[path.suffix.lower()]
    lines = csv.DictReader(content.splitlines(keepends=True), delimiter=delimiter)
    try:
        _check_columns(path, list(lines.fieldnames or []), columns)
        for row in lines:
            place = f"{path}, line {lines.line_num}"
            if any(row.get(None) or ()):
                raise UserError(
                    f"{place} has more fields than the header; a text with {delimiter!r} needs "
                    "quotation marks around it"
                )
            yield _document(row, place, columns)
        if lines.line_num < 2:
            raise UserError(f"{path} has no text below its header")
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: {error}") from None


def _json_lines(path: Path, content: str, columns: Columns) -> Iterator[Document]:
    # Not splitlines(): JSON strings may hold U+2028, which it takes for the end of a line.
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is no JSON ({error}); one object a line is needed") from None
        if not isinstance(row, dict):
            raise UserError(f"{place} is no object with {columns.text!r} and {columns.label!r}")
        _check_columns(Path(place), list(row), columns)
        yield _document(row, place, columns)


def _check_columns(place: Path, there: list[str], columns: Columns) -> None:
    for key, name in (("text_column", columns.text), ("label_column", columns.label)):
        if name not in there:
            shown = [printable(str(each))[:40] for each in there[:12]]
            raise UserError(f"{place} has no column data.{key}={name}; {nearest(name, shown)}")
        if there.count(name) > 1:
            raise UserError(f"{place} has {there.count(name)} columns data.{key}={name}; keep one")


def _document(row: dict[str, Any], place: str, columns: Columns) -> Document:
    text, label = row[columns.text], row[columns.label]
    if not isinstance(text, str | None):
        raise UserError(f"{place}: {columns.text!r} is no text, but {printable(repr(text))[:60]}")
    if not isinstance(label, str | int | None):
        raise UserError(f"{place}: {columns.label!r} is no name, but {printable(repr(label))[:60]}")
    name = "" if label is None else str(label).strip()
    return Document(whole_characters(text or ""), whole_characters(name), place)
