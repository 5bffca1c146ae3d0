"""Database URLs without their passwords, which no file, log or message may show."""

import os
import re

MASK = "***"
# SQLAlchemy's own pattern of user:password@, and a password among the options of the URL
_SECRET = re.compile(r"(?<=://)[^:/@]*:(?P<a>[^@]+)@|[?&](?:password|passwd|pwd)=(?P<b>[^&#]+)")
_VARIABLE = "KD_STORAGE_PASSWORD"
_KEY = "search.storage"


def password(url: str) -> str | None:
    """Return the password in a URL, as it is written there.

    Example:
        >>> password("postgresql://me:secret@host/db"), password("postgresql://me@host/db")
        ('secret', None)
        >>> password("mysql://host/db?user=me&password=secret")
        'secret'
    """
    found = _SECRET.search(url)
    return found and (found["a"] or found["b"])


def masked(url: str) -> str:
    """Return the URL with `***` for its password.

    Example:
        >>> masked("postgresql://me:secret@host:5432/db")
        'postgresql://me:***@host:5432/db'
    """
    found = _SECRET.search(url)
    if found is None:
        return url
    group = "a" if found["a"] else "b"
    return url[: found.start(group)] + MASK + url[found.end(group) :]


def hide_password(argument: str) -> str:
    """Move the password of `search.storage=URL` to the environment, out of Hydra's reach.

    Hydra writes its overrides to a sweep's folder; the jobs' processes inherit the environment.

    Args:
        argument: one word of the command line.
    """
    key, equals, value = argument.partition("=")
    url = value.strip("'\"")
    if key.lstrip("+") != _KEY or "://" not in url or "${" in url:
        return argument
    secret = password(url)
    if secret not in (None, MASK):
        os.environ[_VARIABLE] = str(secret)
    return f"{key}{equals}'{masked(url)}'"


def with_password(url: str) -> str:
    """Return a URL whose `***` is replaced by the password that `hide_password` took from it."""
    return url.replace(MASK, os.environ[_VARIABLE], 1) if _VARIABLE in os.environ else url
