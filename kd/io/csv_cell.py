"""Cells of a CSV file that no spreadsheet runs as a formula."""

from kd.io.printable import printable

# Also in their full-width forms, which spreadsheets read alike
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def csv_cell(value: object) -> object:
    """Return a text such that a spreadsheet shows it, and does not run it as a formula.

    https://owasp.org/www-community/attacks/CSV_Injection: texts that begin with = + - @ get an
    apostrophe. Control characters, among them tab and carriage return, are made visible first.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-0.5)
        ("'=1+1", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
