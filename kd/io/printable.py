"""Text of strangers made fit to be printed: on a terminal, in a log, in a report."""

import unicodedata

_MAX = 2000  # characters; an error text in a result can have any length
# Control characters move the cursor, colour or rename the terminal. Format characters reorder text
# (https://trojansource.codes) or are invisible. Surrogates, of damaged JSON, cannot be encoded.
_REPLACED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: object, most: int = _MAX, lines: bool = False) -> str:
    """Return text in which control, bidirectional and invisible characters are visible.

    Args:
        text: any object; its `str` is used.
        most: characters that are kept.
        lines: keep line ends and tabs, of a message that has several lines.

    Example:
        >>> print(printable("\\x1b[31mred\\x1b[0m \\u202eevil"))
        \\x1b[31mred\\x1b[0m \\u202eevil
        >>> printable("é 猫")
        'é 猫'
    """
    said = str(text)
    if len(said) > most:
        said = f"{said[:most]}… ({len(said) - most} more characters)"
    if said.isascii() and said.isprintable():
        return said
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept else _visible(c) for c in said)


def _visible(character: str) -> str:
    if unicodedata.category(character) in _REPLACED:
        return ascii(character)[1:-1]
    return character
