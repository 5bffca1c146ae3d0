"""Description of a published experiment: its runs, tables and figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from comparison import Result
from matplotlib.figure import Figure

from kd.plots.style import Theme

Runs = dict[str, list[Result]]


class Experiment(NamedTuple):
    """Runs of a published experiment.

    Attributes:
        rows: overrides by row; those with `stages` are for kd.chain, the others for kd.train.
            `{seed}` and `{folder}` stand for the run's.
        seeds: of every row, unless others are asked for.
        tables: formats the results, which it also finds in the given folder, as Markdown.
        figure: draws the results; None: there is no figure.
        after: adds to the folder of a finished run, given its row; None: nothing is added.
        files: names of the files that `after` adds for the tables.
    """

    rows: Mapping[str, Sequence[str]]
    seeds: Sequence[int]
    tables: Callable[[Runs, Path], str]
    figure: Callable[[Runs, Theme], Figure] | None = None
    after: Callable[[str, Path], None] | None = None
    files: Sequence[str] = ()
