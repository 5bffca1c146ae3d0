"""Gains over labels alone in all committed results: python scripts/summary.py --figure.

Reads the result.json files below outputs/reference; trains nothing.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import comparison as compare
from matplotlib.figure import Figure
from reproductions.figures import Gain, gains, write_png

from kd.plots.style import Theme
from kd.reports.statistics import holm, paired_p, t_interval

REFERENCE = Path(__file__).resolve().parents[1] / "outputs" / "reference"
SEEDS = 3  # that a comparison has at least
COLUMNS = ("page", "comparison", "seeds", "labels alone", "gain", "p, corrected")


class Page(NamedTuple):
    """A page whose results are committed beside it.

    Attributes:
        name: file below outputs/reference without its ending.
        title: of its rows.
        alone: returns the row of labels alone that belongs to a row.
    """

    name: str
    title: str
    alone: Callable[[str], str] = lambda row: "ce"


class Comparison(NamedTuple):
    """A distilled student beside the same student on labels alone.

    Attributes:
        page: that has both.
        row: name of the distilled student.
        alone: accuracies of labels alone in percent, of the seeds that both have.
        gains: differences of the same seeds, in points.
    """

    page: Page
    row: str
    alone: Sequence[float]
    gains: Sequence[float]


COMPRESSION = Page("compression", "CIFAR-10, 9 000 images")
PAGES = (
    Page("documents/mnist", "MNIST", lambda row: row.replace("kd", "ce")),
    Page("documents/tutorial", "CIFAR-10, tutorial"),
    COMPRESSION,
    Page("documents/families", "CIFAR-10, 5 000 images", lambda row: f"{row.split('_')[0]}_alone"),
    Page("documents/views", "CIFAR-10, 3 000 images", lambda row: "ce_all"),
    Page("text", "BBC News", lambda row: f"{row.rpartition('-')[0]}-ce"),
    Page("detection", "digits in scenes, mAP"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--figure", action="store_true", help="draw summary.png as well")
    options = parser.parse_args()
    print(table())
    if options.figure:
        write_png(figure, REFERENCE / "summary.png")


def found() -> Iterator[Comparison]:
    """Yield every comparison with enough common seeds."""
    for page in PAGES:
        runs = {row: compare.scores(results) for row, results in _results(page).items()}
        for row, ours in runs.items():
            alone = runs.get(page.alone(row), {})
            common = sorted(ours.keys() & alone.keys())
            if page.alone(row) != row and len(common) >= SEEDS:
                gained = [ours[seed] - alone[seed] for seed in common]
                yield Comparison(page, row, [alone[seed] for seed in common], gained)


def _results(page: Page) -> dict[str, list[compare.Result]]:
    """Return the results of a page by row; those of `COMPRESSION` are of exported fp32 files."""
    if page is not COMPRESSION:
        return compare.collect(REFERENCE / page.name)[0]
    runs: dict[str, list[compare.Result]] = {}
    for path in sorted((REFERENCE / page.name / "methods").glob("*.json")):
        measured = json.loads(path.read_text())
        result = {"seed": measured["seed"], "test/acc": measured["fp32/acc"]}
        runs.setdefault(measured["row"], []).append(result)
    return runs


def table() -> str:
    """Format seeds, accuracy of labels alone and gain of each comparison."""
    shown = [*found()]
    corrected = holm([p for each in shown if (p := paired_p(each.gains)) is not None])
    lines = []
    for each, p in zip(shown, corrected, strict=True):
        link = f"[{each.page.name}]({each.page.name}.md)"
        ends = t_interval(each.gains)
        assert ends is not None  # of `SEEDS` or more
        mean = round(fmean(each.gains), 2) + 0.0  # + 0.0 turns -0.0 into 0.0
        gain = f"{mean:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"
        cells = [str(len(each.gains)), compare.spread(each.alone), gain, f"{p:.3g}"]
        lines.append([link, f"{each.page.title}: `{each.row}`", *cells])
    return compare.markdown(COLUMNS, lines, [])


def figure(theme: Theme) -> Figure:
    """Draw the gains with their 95 % t intervals and seeds."""
    drawn = [Gain(f"{each.page.title}: {each.row}", each.gains, []) for each in found()]
    return gains(drawn, "gain over labels alone, in points", theme)


if __name__ == "__main__":
    main()
