"""Checks of labelled texts before they are tokenised."""

import re
from collections.abc import Iterable

from kd.data.left_out import printable
from kd.data.text_files import Document, Splits
from kd.errors import UserError, nearest

_NAMED = 3


def check_texts(splits: Splits, skip_empty: bool) -> Splits:
    """Refuse texts and labels that a net cannot be trained on.

    Args:
        splits: texts of each split.
        skip_empty: leave out empty texts instead of refusing them.

    Returns:
        The texts without those left out.

    Raises:
        UserError: a text or label is empty, a label is in no training text, there is one label
            alone, or a split is empty.
    """
    if unlabelled := [d for each in splits.values() for d in each if not d.label]:
        raise UserError(f"{_count(unlabelled, 'text')} without a label: {_places(unlabelled)}")
    empty = [d for each in splits.values() for d in each if not d.text.strip()]
    if empty and not skip_empty:
        raise UserError(
            f"{_count(empty, 'empty text')}: {_places(empty)}; remove them, or leave them out with "
            "data.skip_empty=true"
        )
    kept = {split: [d for d in each if d.text.strip()] for split, each in splits.items()}
    for split, each in kept.items():
        if not each:
            raise UserError(f"there is no {split} text")
    known = {d.label for d in kept["train"]}
    if len(known) < 2:
        label = printable(next(iter(known)))[:40]
        raise UserError(f"all training texts have the label {label!r}; two or more are needed")
    for split, each in kept.items():
        _check_known(split, [d for d in each if d.label not in known], known)
    return kept


def _check_known(split: str, unknown: list[Document], known: set[str]) -> None:
    if unknown:
        labels = [printable(each)[:40] for each in sorted(known)[:20]]
        raise UserError(
            f"{unknown[0].place}: no training text has the label "
            f"{printable(unknown[0].label)[:40]!r} of {_count(unknown, f'{split} text')}; "
            f"{nearest(unknown[0].label, labels)}"
        )


def _count(documents: list[Document], noun: str) -> str:
    return f"{len(documents)} {noun}{'s' * (len(documents) != 1)}"


def _places(documents: Iterable[Document]) -> str:
    places = [document.place for document in documents]
    return "; ".join(places[:_NAMED]) + "; …" * (len(places) > _NAMED)


def class_names(documents: Iterable[Document]) -> list[str]:
    """Return the labels in order; by value if all are whole numbers.

    Example:
        >>> class_names([Document("", label, "") for label in ("10", "9", "10")])
        ['9', '10']
    """
    names = sorted({document.label for document in documents})
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in names):
        return sorted(names, key=int)
    return names
