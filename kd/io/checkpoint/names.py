"""Names from a file, shortened and made safe for a terminal."""

from collections.abc import Iterable

from kd.io.printable import printable

LISTED = 8  # names in a message; the others are counted


def shorten(names: Iterable[str], listed: int = LISTED) -> str:
    """Return the first names, and the number of the others.

    Example:
        >>> shorten(["a", "b", "c"], 2)
        'a, b, … (1 more)'
    """
    known = [printable(name, 200) for name in names]
    rest = f", … ({len(known) - listed} more)" if len(known) > listed else ""
    return ", ".join(known[:listed]) + rest
