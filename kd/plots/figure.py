"""A figure's description, and its rendering to SVG, PNG and pixel arrays."""

import re
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kd.plots.style import DARK, LIGHT, Theme, rc_params

_MAX_NAME = 150  # characters of a file's name
Draw = Callable[[Theme], Figure]


class FigureSpec(NamedTuple):
    """A figure before it is drawn.

    Attributes:
        name: of its files, without a suffix.
        title: one line above the caption.
        caption: what the figure shows, in sentences.
        draw: draws it in the colours of a theme.
    """

    name: str
    title: str
    caption: str
    draw: Draw


def file_name(*words: object) -> str:
    """Join words into a file name.

    Example:
        >>> file_name("curves", "digits, resnet8")
        'curves-digits-resnet8'
    """
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join(map(str, words))).strip("-.").lower()
    if len(name) > _MAX_NAME:  # a file system takes 255 bytes
        name = f"{name[:_MAX_NAME]}-{zlib.crc32(name.encode()):08x}"
    return name


def save(draw: Draw, folder: Path, name: str) -> str:
    """Write `name.png`, `name-dark.png` and `name.svg` into a folder that exists.

    The SVG file follows the viewer's light or dark colour scheme.

    Returns:
        The SVG element, for a page that defines the CSS variables --ink, --muted, --rule and
        --paper.
    """
    path = folder / f"{name}.svg"
    with mpl.rc_context(rc_params(LIGHT)):
        drawn = draw(LIGHT)
        # Without a date and a creator, equal figures are equal files.
        drawn.savefig(path, metadata={"Date": None, "Creator": None})
        drawn.savefig(folder / f"{name}.png", dpi=200)
    with mpl.rc_context(rc_params(DARK)):
        draw(DARK).savefig(folder / f"{name}-dark.png", dpi=200)
    text = path.read_text()
    element = _with_css_variables(text[text.index("<svg") :])  # without the XML declaration
    path.write_text(element.replace(">", f">{_colour_schemes()}", 1))
    return element


def render(draw: Draw) -> NDArray[np.uint8]:
    """Render a figure in the light theme as RGB pixels [H, W, 3] at 150 dpi."""
    with mpl.rc_context(rc_params(LIGHT)):
        canvas = FigureCanvasAgg(draw(LIGHT))
        canvas.figure.set_dpi(150)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # [H, W, 4] without alpha


def _with_css_variables(svg: str) -> str:
    for name, colour in asdict(LIGHT).items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def _colour_schemes() -> str:
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in asdict(theme).items())
        for theme in (LIGHT, DARK)
    )
    return f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
