"""Errors that a command reports as one message, without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake that the user can correct; the message names value, place and a valid choice.

    Example:
        >>> import kd
        >>> try:
        ...     kd.load("missing")
        ... except kd.UserError as error:
        ...     print(error)
        there is neither a run's folder nor a weights file at missing
    """


class OutOfMemoryError(UserError):
    """Too little memory: the same run may succeed later, or on another machine."""


def nearest(name: object, valid: Iterable[object]) -> str:
    """Return a hint that names the nearest valid choice, and all valid ones in order.

    Args:
        name: what was given.
        valid: what could have been given.

    Example:
        >>> nearest("mnits", ["mnist", "cifar10"])
        "did you mean 'mnist'? valid: cifar10, mnist"
        >>> nearest("x", [])
        'valid: none'
    """
    options = sorted(map(str, valid))
    close = get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(options) or 'none'}"
