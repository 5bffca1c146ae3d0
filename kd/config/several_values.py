"""Settings that take several values, given as a list, with commas, or as words that follow."""

import re
from collections.abc import Sequence

from kd.config.grammar import is_path, quote, split


def joined(words: Sequence[str], key: str) -> list[str]:
    """Write all values of a setting as one list.

    Args:
        words: the overrides of a command line, in order.
        key: of the setting; words without `=`, or that are paths, belong to it if they follow it.

    Returns:
        The overrides, with `key=[…]` in place of the first that gives a value; unchanged if there
        is only one value, or one that is a list already.

    Example:
        >>> joined(["run=a", "images=b.png", "c d.png", "top=2"], "images")
        ['run=a', "images=['b.png','c d.png']", 'top=2']
        >>> joined(["images=b.png,c.png"], "images")
        ["images=['b.png','c.png']"]
    """
    values: list[str] = []
    others: list[str] = []
    start, follows, place = f"{key}=", False, 0
    for word in words:
        follows = word.startswith(start) or (follows and ("=" not in word or is_path(word)))
        if follows:
            place = place if values else len(others)
            values += _values(word.removeprefix(start))
        else:
            others.append(word)
    if len(values) < 2 or any(value[:1] in "[{'\"" for value in values):
        return [*words]
    return [*others[:place], f"{start}[{','.join(map(quote, values))}]", *others[place:]]


def texts_joined(words: Sequence[str], key: str) -> list[str]:
    """Write all values of a setting whose values are texts as one list, each as it is.

    A text may have commas, quotes and brackets; a list in Hydra's grammar is left as it is.

    Args:
        words: the overrides of a command line, in order.
        key: of the setting; words that follow it belong to it unless they are `key=value`.

    Example:
        >>> texts_joined(["run=a", "texts=Well, it's good", "So = bad", "top=2"], "texts")
        ['run=a', "texts=['Well, it\\\\'s good','So = bad']", 'top=2']
    """
    start = f"{key}="
    values: list[str] = []
    others: list[str] = []
    follows, place = False, 0
    for word in words:
        follows = word.startswith(start) or (follows and not _SETTING.match(word))
        if follows:
            place = place if values else len(others)
            values.append(word.removeprefix(start))
        else:
            others.append(word)
    if not values or (len(values) == 1 and values[0][:1] == "[" and values[0][-1:] == "]"):
        return [*words]
    if values == ["null"]:
        return [*words]
    return [*others[:place], f"{start}[{','.join(map(quote, values))}]", *others[place:]]


_SETTING = re.compile(r"[~+]{0,2}[A-Za-z_][\w./@]*=\S|--?[A-Za-z]|~\w+$")


def _values(text: str) -> list[str]:
    # A comma may be part of a file's name.
    return [text] if is_path(text) else split(text)
