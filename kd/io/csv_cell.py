"""Cells of a CSV file that no spreadsheet runs as a formula."""

import re

from kd.io.printable import printable

# Also in their full-width forms, which spreadsheets read alike
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


# Control characters but \n, which every reader takes in a quoted cell, and surrogates
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def csv_cell(value: object, exact: bool = False) -> object:
    """Return a text such that a spreadsheet shows it, and does not run it as a formula.

    https://owasp.org/www-community/attacks/CSV_Injection: texts that begin with = + - @ get an
    apostrophe. Control characters, among them tab and carriage return, are made visible first.

    Args:
        value: of the cell.
        exact: keep line ends and invisible characters, which emoji have, of the name by which a
            file is found again.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-0.5), csv_cell("a\\nb"), csv_cell("a\\nb", exact=True)
        ("'=1+1", -0.5, 'a\\\\nb', 'a\\nb')
    """
    if not isinstance(value, str):
        return value
    text = value if exact and not _CONTROL.search(value) else printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
