"""Folders of the splits of an image folder, found by their common names."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": "train|training|trn|tr",
    "val": "val|valid|validation|validate|dev|eval|evaluation",
    "test": "test|testing|tst|te",
}
# training_set, train2017, test-images, Val
_PATTERN = r"({})([-_ ]?(set|split|data|images?|imgs?))?([-_ ]?\d+)?"


class SplitFolders(NamedTuple):
    """Result of `find_splits`.

    Attributes:
        folders: name of the folder of each split that is there.
        ambiguous: names of several folders for one split, none of which is called as the split.
        others: names of all other folders, further ones of a split among them.
    """

    folders: dict[str, str]
    ambiguous: dict[str, list[str]]
    others: list[str]


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name means; None if it means none.

    Example:
        >>> [split_of(name) for name in ("TRAIN", "valid", "test_set", "val2017", "trainer")]
        ['train', 'val', 'test', 'val', None]
    """
    for split, words in _WORDS.items():
        if re.fullmatch(_PATTERN.format(words), folder, re.IGNORECASE):
            return split
    return None


def find_splits(names: Iterable[str]) -> SplitFolders:
    """Assign folders to splits; of several for one split, that of its very name.

    Example:
        >>> find_splits(["Train", "test", "testing", "raw"]).folders
        {'train': 'Train', 'test': 'test'}
    """
    candidates: dict[str | None, list[str]] = defaultdict(list)
    for name in sorted(names):
        candidates[split_of(name)].append(name)
    others = candidates.pop(None, [])
    folders, ambiguous = {}, {}
    for split in SPLITS:
        found = candidates[split]
        if split in found or len(found) == 1:
            folders[split] = split if split in found else found[0]
            others += [name for name in found if name != folders[split]]
        elif found:
            ambiguous[split] = found
    return SplitFolders(folders, ambiguous, sorted(others))
