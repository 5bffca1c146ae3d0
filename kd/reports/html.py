"""Self-contained HTML pages from templates: nothing is loaded, and text never becomes markup."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kd.io.printable import printable
from kd.reports.drawing import Drawing

_FOLDER = Path(__file__).resolve().parent


def render(template: str, drawings: Sequence[Drawing], *folders: Path, **content: Any) -> str:
    """Return a page that loads no other file and needs no network.

    Names come from folders of strangers; autoescaping makes them text, never markup.

    Args:
        template: name of its file, in this package or in `folders`.
        drawings: the figures, which are embedded.
        *folders: further folders of templates.
        **content: values that the template names.
    """
    environment = Environment(
        loader=FileSystemLoader([*folders, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,  # a mistyped name in the template is an error, not a blank
        trim_blocks=True,
        finalize=_shown,
    )
    # Matplotlib escapes the text within an SVG.
    embedded = [drawing._replace(svg=Markup(drawing.svg)) for drawing in drawings]
    return environment.get_template(template).render(drawings=embedded, **content)


def _shown(value: Any) -> Any:
    """Make invisible and bidirectional characters visible; what is escaped already is ours."""
    return value if isinstance(value, Markup | int | float) else printable(value)
