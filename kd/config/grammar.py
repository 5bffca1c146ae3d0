"""Overrides in Hydra's grammar: values that it does not take as they are get quotes.

The grammar is that of https://hydra.cc/docs/1.3/advanced/override_grammar/basic/.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from kd.errors import UserError

# The parser's depth of recursion is a multiple of this; no setting needs more than three.
_MAX_DEPTH = 20
_BRACKETS = {"[": 1, "{": 1, "(": 1, "]": -1, "}": -1, ")": -1}
# Characters of a message, so that a long value does not hide what is wrong
_SHOWN = 80


def parse(word: str, loader: Any = None) -> Override:
    """Return the override that a word is.

    Args:
        word: one word of the command line, in Hydra's grammar.
        loader: Hydra's config loader, which `glob(…)` in the value needs.
    """
    (override,) = _parser(loader).parse_overrides([word])
    return override


@cache
def _parser(loader: Any) -> OverridesParser:
    return OverridesParser.create(config_loader=loader)


def readable(word: str) -> str:
    """Return an override in a form that Hydra takes.

    A value with characters that have a meaning in the grammar, such as the second `=` of
    `student.checkpoint=runs/epoch=3.ckpt`, is put in quotes; `~` at its beginning becomes the home
    folder.

    Args:
        word: one word of the command line.

    Raises:
        UserError: no override can be meant.

    Example:
        >>> readable("student.checkpoint=runs/epoch=3.ckpt")
        "student.checkpoint='runs/epoch=3.ckpt'"
        >>> readable("seed=1")
        'seed=1'
    """
    _refuse_characters(word)
    key, equals, value = word.partition("=")
    if not equals:
        return _without_value(word)
    key, value = key.strip(), _at_home(value.strip())
    if not key.strip("+~") or not _is_parsed(f"{key}=1"):
        raise UserError(f"{shorten(word)}: {key!r} is no key; a setting is written as key=value")
    if "," in value and value[:1] not in "[{'\"" and is_path(value):
        return f"{key}={quote(value)}"  # a path, not the values of a sweep
    for form in (value, _quoted(value)):
        if _is_parsed(f"{key}={form}"):
            return f"{key}={form}"
    if value[:1] in ("[", "{", "'", '"'):
        raise UserError(
            f"{shorten(word)}: its brackets or quotes do not match; text with special characters "
            "in a list or mapping has quotes of its own, and the whole word quotes for the shell"
        )
    raise UserError(
        f"{shorten(word)}: the value cannot be read; if it is text, write {_in_shell(key, value)}"
    )


def shorten(text: str) -> str:
    """Return the beginning of a long text, on one line.

    Example:
        >>> shorten("x" * 200)[-3:]
        'xx…'
    """
    line = text.replace("\n", "\\n")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _without_value(word: str) -> str:
    if not word.startswith("~") or word == "~" or not _is_parsed(word):
        raise UserError(f"{shorten(word) or 'an empty word'}: a setting is written as key=value")
    return word


def _refuse_characters(word: str) -> None:
    for character in word:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            place = word.partition("=")[0] if "=" in word else "argument"
            shown = shorten(place.encode("ascii", "backslashreplace").decode())
            raise UserError(f"{shown}: its text has the character {character!a}")
    depth = deepest = 0
    for character in word:
        depth += _BRACKETS.get(character, 0)
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise UserError(
            f"{shorten(word)}: brackets are nested {deepest} deep; at most {_MAX_DEPTH} are read"
        )


def _is_parsed(word: str) -> bool:
    try:
        parse(word)
    except (HydraException, ValueError, RecursionError):
        return False
    except AttributeError:  # glob(…), which needs a loader
        return "glob(" in word
    return True


def _quoted(value: str) -> str:
    """Put the parts of a value in quotes that Hydra does not take without."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(map(_quoted, split(value[1:-1])))}]"
    parts = split(value)
    if len(parts) > 1 and not is_path(value):
        return ",".join(map(_quoted, parts))
    # What begins like a list, a mapping or quoted text and is none has a mistake within.
    is_text = value[:1] not in ("", "[", "{", "'", '"')
    return quote(value) if is_text and not _is_parsed(f"x={value}") else value


def quote(text: str) -> str:
    """Return text in quotes, as Hydra takes it.

    Example:
        >>> quote("it's")
        "'it\\\\'s'"
    """
    # Hydra reads ${…} in quotes as well; a backslash keeps it as it is.
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def is_path(text: str) -> bool:
    """Return whether there is such a file or folder.

    Example:
        >>> is_path("/"), is_path("0,1," * 1000)
        (True, False)
    """
    try:
        return Path(text).exists()
    except OSError:  # longer than any path
        return False


def split(value: str) -> list[str]:
    """Split at the commas outside brackets and quotes.

    Example:
        >>> split("a,[b,c],'d,e'")
        ['a', '[b,c]', "'d,e'"]
    """
    parts, depth, begin, within = [], 0, 0, ""
    for place, character in enumerate(value):
        if character in "'\"" and within in ("", character):
            within = "" if within else character
        elif not within:
            depth += _BRACKETS.get(character, 0)
            if character == "," and depth == 0:
                parts.append(value[begin:place])
                begin = place + 1
    return [*parts, value[begin:]]


def _at_home(value: str) -> str:
    """Replace `~` at the beginning of every part of a value, as a shell does for words."""

    def expand(match: re.Match[str]) -> str:
        return str(Path(match[0]).expanduser()) if "'" not in str(Path.home()) else match[0]

    try:
        return re.sub(r"(?:(?<=^)|(?<=[\[,'\"]))~[\w.-]*(?=/|$|[\],'\"])", expand, value)
    except RuntimeError:  # ~ with the name of nobody
        return value


def _in_shell(key: str, value: str) -> str:
    return shorten(f'"{key}={quote(value)}"') if '"' not in value else f"{key}='…'"
