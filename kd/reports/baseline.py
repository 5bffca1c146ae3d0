"""Choice of the row that all others of a group are compared with."""

from collections.abc import Sequence

from kd.errors import UserError
from kd.reports.labels import shown
from kd.reports.rows import Row
from kd.reports.settings import Settings

NO_DISTILLATION = "ce"  # the method that trains with cross-entropy on the labels alone


def choose_baseline(rows: Sequence[Row], requested: str | None = None) -> Row:
    """Return the requested row, else the one without distillation, else the first.

    Args:
        rows: of a group, at least one.
        requested: as for `matches`; rows of another group may match instead.

    Raises:
        UserError: several rows match.
    """
    matching = [row for row in rows if requested is not None and matches(row, requested)]
    if len(matching) > 1:
        several = "; ".join(row.label for row in matching)
        raise UserError(f"baseline={requested} matches several rows, add settings: {several}")
    if matching:
        return matching[0]
    return plain_row(rows) or rows[0]


def plain_row(rows: Sequence[Row]) -> Row | None:
    """Return the row without distillation; None if there is none.

    Several such rows differ in other settings; the one with most seeds pairs with most runs.
    """
    plain = [row for row in rows if row.settings["method"] == NO_DISTILLATION]
    plain = [row for row in plain if row.control in (None, NO_DISTILLATION)]
    return max(plain, key=lambda row: len(row.runs)) if plain else None


def check_baseline(rows: Sequence[Row], requested: str | None) -> None:
    """Refuse a baseline that no row of the report matches.

    Raises:
        UserError: names all rows.
    """
    if requested is not None and not any(matches(row, requested) for row in rows):
        titles = "; ".join(sorted({row.title for row in rows})) or "none"
        raise UserError(f"baseline={requested} matches no row; rows: {titles}")


def matches(row: Row, requested: str) -> bool:
    """Whether a row has the method `ce`, or all settings of `method=kd,temperature=4`.

    A key may be shortened to its last words, as in a row's label.
    """
    words = [word.strip() for word in requested.split(",")]
    return all(_has(row.settings, word) for word in words)


def _has(settings: Settings, word: str) -> bool:
    key, equals, value = word.partition("=")
    if not equals:
        return bool(settings["method"] == word)
    # `temperature=4` matches method.temperature: 4.0, as labels show it.
    found = [v for k, v in settings.items() if k == key or k.endswith(f".{key}")]
    return any(value in (str(v), shown(v)) or _as_number(v) == _as_number(value) for v in found)


def _as_number(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return value
