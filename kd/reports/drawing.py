"""A drawn figure with its caption, for the report's text and page."""

from typing import NamedTuple


class Drawing(NamedTuple):
    """A figure whose files are written.

    Attributes:
        name: of the files, without a suffix.
        title: one line above the caption.
        caption: what the figure shows.
        svg: the SVG element, to be embedded in the page.
    """

    name: str
    title: str
    caption: str
    svg: str
