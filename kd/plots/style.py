"""How figures look: one type size, hairlines, colours told apart by everyone, light and dark."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

WIDTH = 5.4  # inches: letters stay legible when a phone shrinks it to its width


@dataclass(frozen=True)
class Theme:
    """The colours that depend on the background."""

    ink: str
    muted: str
    rule: str
    paper: str


# No two alike, and no other colour in a figure is one of them: an SVG's are found by their value.
LIGHT = Theme(ink="#1d2126", muted="#626a73", rule="#d9dde1", paper="#fefefe")
DARK = Theme(ink="#e4e7ea", muted="#9aa3ac", rule="#353b42", paper="#14171a")

# After Okabe & Ito 2008, for every kind of colour vision; darkened to 3:1 on white and on DARK.
BLUE, RED, GREEN, PURPLE, OCHRE = "#1b7abf", "#cf5a00", "#00906a", "#b8578f", "#a07a00"
SERIES = (BLUE, RED, GREEN, PURPLE, OCHRE)
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (3, 3)),
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#eaf1f7", "#9cc3e0", "#3d87bd", "#0b3c66"])

Draw = Callable[[Theme], Figure]
_LONGEST = 46


def fitted(label: str) -> str:
    """A label that leaves room for the figure beside it."""
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str], **how: Any) -> None:
    """A legend below the axes, in as many columns as its longest name leaves room for."""
    columns = next((n for n in (3, 2) if max(map(len, names)) * n <= 66), 1)
    names = [fitted(name) for name in names]
    figure.legend(handles, names, loc="outside lower left", ncols=columns, **how)


class Plan(NamedTuple):
    """A figure that is not drawn yet: the name of its file, what is said of it, and how to draw."""

    name: str
    title: str
    caption: str
    draw: Draw


def file_name(*words: object) -> str:
    """Words as the name of a file: `curves-digits-resnet8`."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join(map(str, words))).strip("-.").lower()


def axes(theme: Theme, height: float) -> tuple[Figure, Axes]:
    """An empty figure, WIDTH by `height` inches, with a frame on the left and below."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.paper)
    found = figure.add_subplot(facecolor="none")
    found.spines[["top", "right"]].set_visible(False)
    return figure, found


def _settings(theme: Theme) -> Any:
    """Matplotlib's parameters; ticks and legends read them as late as when they are saved."""
    return {
        "svg.fonttype": "none",  # text as text
        "svg.hashsalt": "kd",  # the same names in the same drawing
        "font.family": "sans-serif",
        "text.parse_math": False,  # a class may be called $
        "font.size": 9,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.rule,
        "axes.linewidth": 0.8,
        "axes.labelsize": 9,
        "axes.axisbelow": True,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
        "legend.fontsize": 8.5,
    }


def save(draw: Draw, folder: Path, name: str) -> str:
    """Write `name.png`, `name-dark.png` and `name.svg`, which follows the viewer's scheme.

    Returns:
        The SVG's element, to stand in a page that defines --ink, --muted, --rule and --paper.
    """
    path = folder / f"{name}.svg"
    with mpl.rc_context(_settings(LIGHT)):
        drawn = draw(LIGHT)
        drawn.savefig(path, metadata={"Date": None, "Creator": None})
        drawn.savefig(folder / f"{name}.png", dpi=200)
    with mpl.rc_context(_settings(DARK)):
        draw(DARK).savefig(folder / f"{name}-dark.png", dpi=200)
    text = path.read_text()
    element = _adaptive(text[text.index("<svg") :])
    path.write_text(element.replace(">", f">{_scheme()}", 1))
    return element


def rendered(draw: Draw) -> NDArray[np.uint8]:
    """The drawing on light ground as pixels [H, W, 3]."""
    with mpl.rc_context(_settings(LIGHT)):
        canvas = FigureCanvasAgg(draw(LIGHT))
        canvas.figure.set_dpi(150)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _adaptive(svg: str) -> str:
    for name, colour in asdict(LIGHT).items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def _scheme() -> str:
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in asdict(theme).items())
        for theme in (LIGHT, DARK)
    )
    return f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
