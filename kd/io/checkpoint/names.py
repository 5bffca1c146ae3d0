"""Names from a file, shortened and made safe for a terminal."""

from collections.abc import Iterable

LISTED = 8  # names in a message; the others are counted


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey.

    Example:
        >>> printable("conv1.weight\\x1b[2J")
        'conv1.weight?[2J'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shorten(names: Iterable[str], listed: int = LISTED) -> str:
    """Return the first names, and the number of the others.

    Example:
        >>> shorten(["a", "b", "c"], 2)
        'a, b, … (1 more)'
    """
    known = [printable(name[:200]) for name in names]
    rest = f", … ({len(known) - listed} more)" if len(known) > listed else ""
    return ", ".join(known[:listed]) + rest
