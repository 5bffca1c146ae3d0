"""The errors that a command reports as one message, without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can mend: the message names the value, the place and a valid choice."""


class OutOfMemoryError(UserError):
    """Nothing is wrong but the size: the same may go through later, or elsewhere."""


def nearest(name: object, valid: Iterable[object]) -> str:
    """Say what was probably meant: "did you mean 'x'? valid: a, b, x"."""
    options = sorted(map(str, valid))
    close = get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(options) or 'none'}"
