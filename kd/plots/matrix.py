"""Axes and colour bar that all figures of a confusion matrix have."""

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from kd.plots.style import Theme


def finish_matrix(figure: Figure, ax: Axes, mesh: ScalarMappable, theme: Theme) -> Figure:
    """Label the axes of a matrix whose rows are labels and columns predictions, in percent.

    Args:
        figure: with the matrix, which is returned.
        ax: that it is drawn on; the first row is put at the top.
        mesh: the matrix, for the colour bar.
        theme: of the figure.
    """
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="prediction", ylabel="label")
    bar = figure.colorbar(mesh, shrink=0.6, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label("percentage of a class's images", color=theme.muted)
    return figure
