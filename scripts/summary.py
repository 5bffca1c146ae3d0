"""Gains over labels alone in all committed results: python scripts/summary.py --figure.

Reads the result.json files below outputs/reference; trains nothing.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import comparison as compare
from matplotlib.figure import Figure
from reproductions.figures import Gain, gains, write_png

from kd.plots.style import Theme
from kd.reports.statistics import holm, paired_p, t_interval

REFERENCE = Path(__file__).resolve().parents[1] / "outputs" / "reference"
COMPRESSION = "compression"
COLUMNS = ("page", "comparison", "seeds", "labels alone", "gain", "p, corrected")


class Comparison(NamedTuple):
    """A distilled student beside the same student on labels alone.

    Attributes:
        page: file below outputs/reference without its ending; beside it are the results.
        label: for the table and the figure.
        row: of the distilled student.
        alone: the row of labels alone.
    """

    page: str
    label: str
    row: str
    alone: str = "ce"


COMPARISONS = (
    Comparison("documents/mnist", "MNIST, MLP: `kd`", "kd"),
    *(
        Comparison("documents/tutorial", f"CIFAR-10 (45 000), LightNN: `{row}`", row)
        for row in ("soft_ce", "cosine", "regressor")
    ),
    Comparison("documents/views", "CIFAR-10 (3 000), ResNet-8: `kd`", "kd_all", "ce_all"),
    *(
        Comparison(COMPRESSION, f"CIFAR-10 (9 000), ResNet-8: `{method}`", method)
        for method in ("kd", "dkd", "at", "fitnet", "crd", "dist")
    ),
    *(
        Comparison("documents/families", f"CIFAR-10 (5 000), {label}: `kd`", *rows)
        for student in ("resnet", "densenet")
        for teacher in ("vgg", "resnet", "densenet")
        for label, rows in [
            (f"{student} under {teacher}", (f"{student}_under_{teacher}", f"{student}_alone"))
        ]
    ),
    *(
        Comparison("text", f"BBC News, {share} % of labels: `{method}`", *rows)
        for share in (100, 20, 5)
        for method in ("kd", "pkd")
        for rows in [(f"{share}-layers-{method}", f"{share}-layers-ce")]
    ),
    *(
        Comparison("detection", f"digits in scenes, mAP: `{method}`", method)
        for method in ("det_kd", "fgfi")
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--figure", action="store_true", help="draw summary.png as well")
    options = parser.parse_args()
    print(table())
    if options.figure:
        write_png(figure, REFERENCE / "summary.png")


def found() -> Iterator[tuple[Comparison, list[float], list[float]]]:
    """Yield the comparisons of three seeds or more: accuracies of labels alone, and gains."""
    pages = {c.page: _results(c.page) for c in COMPARISONS}
    for comparison in COMPARISONS:
        runs = pages[comparison.page]
        rows = comparison.row, comparison.alone
        ours, alone = (compare.scores(runs.get(row, [])) for row in rows)
        common = sorted(ours.keys() & alone.keys())
        if len(common) > 2:
            yield comparison, [*alone.values()], [ours[seed] - alone[seed] for seed in common]


def _results(page: str) -> dict[str, list[compare.Result]]:
    """Return the results of a page by row; those of `COMPRESSION` are of exported fp32 files."""
    if page != COMPRESSION:
        return compare.collect(REFERENCE / page)[0]
    runs: dict[str, list[compare.Result]] = {}
    for path in sorted((REFERENCE / page / "methods").glob("*.json")):
        measured = json.loads(path.read_text())
        result = {"seed": measured["seed"], "test/acc": measured["fp32/acc"]}
        runs.setdefault(measured["row"], []).append(result)
    return runs


def table() -> str:
    """Format seeds, accuracy of labels alone and gain of each comparison."""
    shown = [*found()]
    corrected = holm([p for *_, gained in shown if (p := paired_p(gained)) is not None])
    lines = []
    for (comparison, alone, gained), p in zip(shown, corrected, strict=True):
        link = f"[{comparison.page}]({comparison.page}.md)"
        ends = t_interval(gained)
        assert ends is not None  # of three seeds or more
        mean = round(fmean(gained), 2) + 0.0  # + 0.0 turns -0.0 into 0.0
        gain = f"{mean:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"
        cells = [str(len(gained)), compare.spread(alone), gain, f"{p:.3f}"]
        lines.append([link, comparison.label, *cells])
    return compare.markdown(COLUMNS, lines, [])


def figure(theme: Theme) -> Figure:
    """Draw the gains with their 95 % t intervals and seeds."""
    drawn = [
        Gain(comparison.label.replace("`", ""), gained, []) for comparison, _, gained in found()
    ]
    return gains(drawn, "gain over labels alone, in points", theme)


if __name__ == "__main__":
    main()
