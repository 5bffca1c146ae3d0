"""Texts given on the command line and in files, one a line or one a row."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.data.text_files import DELIMITERS, JSON_LINES, MAX_FIELD, TABLES, markless
from kd.errors import UserError, closest, nearest
from kd.io.regular_files import read_bytes

Skipped = Callable[[str, str], None]  # place and reason
_FILES = (".txt", *TABLES)
_LARGEST = 2**32  # bytes of a file


class TextLine(NamedTuple):
    """A text, and where it stands: the file and its line, or which text of the command it is."""

    place: str
    text: str


class TextLines:
    """The texts of a command, in order; files are read again by each iteration.

    Args:
        given: files, and texts themselves: whatever is neither a file nor named like one.
        column: of the texts in tables (.csv, .tsv, .jsonl, .ndjson, .json), which have a header.
        encoding: of the files.

    Raises:
        UserError: a file is missing or is no file of texts, or the encoding is none of Python's.

    Example:
        >>> [line] = TextLines(["To be, or not to be"]).lines(print)
        >>> line
        TextLine(place='text 1', text='To be, or not to be')
    """

    def __init__(self, given: Sequence[str], column: str = "text", encoding: str = "utf-8") -> None:
        self.given, self.column, self.encoding = given, column, _known(encoding)
        if problems := [problem for each in given if (problem := _problem(each))]:
            raise UserError("\n- ".join(problems[:10]))

    def lines(self, skipped: Skipped) -> Iterator[TextLine]:
        """Yield the texts.

        Args:
            skipped: called with each line without a text, or that cannot be decoded.

        Raises:
            UserError: a file cannot be read, or a table lacks the column.
        """
        for number, given in enumerate(self.given, 1):
            found = (
                self._file(Path(given), skipped)
                if _is_file(given)
                else iter([TextLine(f"text {number}", given)])
            )
            for line in found:
                if reason := _unusable(line.text):
                    skipped(line.place, reason)
                else:
                    yield line

    def _file(self, path: Path, skipped: Skipped) -> Iterator[TextLine]:
        try:
            content = read_bytes(path, _LARGEST).decode(self.encoding, "surrogateescape")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"texts={path} cannot be read: {reason}") from None
        suffix = path.suffix.lower()
        if suffix in DELIMITERS:
            return self._table(path, content, skipped)
        lines = content.removesuffix("\n").split("\n")
        if suffix in JSON_LINES:
            return self._json_lines(path, lines, skipped)
        return (
            TextLine(f"{path}, line {number}", line.removesuffix("\r"))
            for number, line in enumerate(lines, 1)
        )

    def _table(self, path: Path, content: str, skipped: Skipped) -> Iterator[TextLine]:
        csv.field_size_limit(MAX_FIELD)
        delimiter = DELIMITERS[path.suffix.lower()]
        rows = csv.DictReader(content.splitlines(keepends=True), delimiter=delimiter)
        try:
            self._check_column(path, list(rows.fieldnames or []))
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if any(row.get(None) or ()):
                    skipped(
                        place, f"it has more fields than the header: quote texts with {delimiter!r}"
                    )
                else:
                    yield TextLine(place, row[self.column] or "")
        except csv.Error as error:
            raise UserError(f"texts={path}, line {rows.line_num}: {error}") from None

    def _json_lines(self, path: Path, lines: list[str], skipped: Skipped) -> Iterator[TextLine]:
        for number, line in enumerate(lines, 1):
            place = f"{path}, line {number}"
            try:
                row = json.loads(line) if line.strip() else {self.column: ""}
                text = row[self.column]
            except (ValueError, RecursionError):
                skipped(place, "it is no JSON; one object a line is needed")
                continue
            except (KeyError, TypeError, IndexError):
                if number == 1:
                    self._check_column(path, list(row) if isinstance(row, dict) else [])
                skipped(place, f"it has no text_column={self.column}")
                continue
            if isinstance(text, str):
                yield TextLine(place, text)
            else:
                skipped(place, f"its {self.column!r} is no text")

    def _check_column(self, path: Path, there: list[str]) -> None:
        if self.column not in there:
            raise UserError(
                f"texts={path} has no column text_column={self.column}; "
                f"{nearest(self.column, [str(each)[:40] for each in there[:12]])}"
            )


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(
            f"encoding={encoding}: must be one of Python's, such as utf-8 or cp1252"
        ) from None
    return markless(encoding)


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # longer than any path
        return False


def _problem(given: str) -> str:
    path = Path(given)
    suffix = path.suffix.lower()
    if not given.strip():
        return "texts: a text is empty"
    if _is_file(given):
        if suffix not in _FILES:
            return f"texts={given}: neither a table nor a file of lines; {nearest(suffix, _FILES)}"
        return ""
    named = suffix in _FILES and not any(mark in given for mark in " \n\t")
    if named or (len(given) < 256 and path.is_dir()):
        what = "is a folder; name its files" if path.is_dir() else f"is no file{_hint(path)}"
        return f"texts={given} {what}"
    return ""


def _hint(path: Path) -> str:
    try:
        close = closest(path.name, [other.name for other in path.absolute().parent.iterdir()])
    except OSError:
        return ""
    return f"; did you mean {str(path.with_name(close))!r}?" if close else ""


def _unusable(text: str) -> str:
    if not text.strip():
        return "it is empty"
    bad = next((each for each in text if "\udc80" <= each <= "\udcff"), None)
    if bad is not None:
        return f"the byte 0x{ord(bad) - 0xDC00:02x} is not in its encoding; give it as encoding=…"
    return ""
