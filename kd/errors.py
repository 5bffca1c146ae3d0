"""Errors that a command reports as one message, without a traceback."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from itertools import takewhile


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
    close = closest(name, options)
    hint = f"did you mean {close!r}? " if close else ""
    return f"{hint}valid: {', '.join(options) or 'none'}"


def closest(name: object, valid: Iterable[object]) -> str | None:
    """Return the valid choice that a misspelt name stands for; None if none is near.

    Case, `-` for `_` and missing `_` count as no difference. A name of three letters or more may be
    the beginning of the choice, or begin with it.

    Example:
        >>> closest("ResNet-20", ["resnet20", "resnet32"]), closest("fast", ["default"])
        ('resnet20', None)
    """
    typed = _simplified(name)
    options = {_simplified(option): str(option) for option in reversed([*valid])}
    if typed in options:
        return options[typed]
    # 0.6 is difflib's own default; at 0.5 "fast" resembles "default".
    if close := get_close_matches(typed, options, n=3, cutoff=0.6):
        best = [o for o in close if _ratio(o, typed) == _ratio(close[0], typed)]
        return options[max(best, key=lambda option: _common(option, typed))]
    begun = [o for o in options if min(len(o), len(typed)) >= 3 and _one_begins(o, typed)]
    return options[begun[0]] if len(begun) == 1 else None


def _simplified(name: object) -> str:
    return str(name).strip().lower().replace("-", "").replace("_", "").replace(" ", "")


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, other, one).ratio()


def _common(one: str, other: str) -> int:
    """The length of the common beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _one_begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
