"""Counts and names of the files that an image folder leaves out."""

from collections import defaultdict
from collections.abc import Iterable

NAMED = 3  # of each reason, in the line; the rest is counted


class LeftOut:
    """Files by the reason for which they are left out.

    Example:
        >>> left = LeftOut()
        >>> left.add(".txt", "train/ant/notes.txt")
        >>> str(left)
        '1 .txt (train/ant/notes.txt)'
    """

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, path: str) -> None:
        self.files[reason].append(path)

    def without(self, reasons: Iterable[str]) -> "LeftOut":
        """The files with other reasons."""
        other = LeftOut()
        other.files.update({why: p for why, p in self.files.items() if why not in {*reasons}})
        return other

    def below(self, folder: str) -> "LeftOut":
        """The files in a folder."""
        other = LeftOut()
        for why, paths in self.files.items():
            if inside := [path for path in paths if path.startswith(f"{folder}/")]:
                other.files[why] = inside
        return other

    def __bool__(self) -> bool:
        return bool(self.files)

    def __str__(self) -> str:
        most_first = sorted(self.files.items(), key=lambda item: (-len(item[1]), item[0]))
        return ", ".join(f"{len(paths)} {why} ({listed(paths)})" for why, paths in most_first)


def listed(paths: Iterable[str], most: int = NAMED) -> str:
    """Return some paths in one line, with `…` for further ones.

    Example:
        >>> listed(["a", "b\\n", "c"], most=2)
        'a, b\\\\n, …'
    """
    names = [printable(path) for path in paths]
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


def printable(path: str) -> str:
    """Return a file's name without line breaks, control characters and undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
