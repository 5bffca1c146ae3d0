"""Tables of `outputs/reference/compression.md` from the measurements beside it."""

import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comparison as compare

from kd.reports.statistics import t_interval

RESULTS = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "compression"
LATENCIES = "latencies.json"
BASELINE = "ce"
# Rows of the table of ways: title, run, and which of its files a device gets.
ROWS = (
    ("fp32", "plain", "fp32"),
    ("PTQ", "plain", "int8"),
    ("QAT + CE", "qat_ce", "int8"),
    ("QAT + KD", "qat_kd", "int8"),
    ("channels 50 % + CE", "pruned_ce", "fp32"),
    ("channels 50 % + KD", "pruned_kd", "fp32"),
    ("channels 50 % + KD, then PTQ", "pruned_kd", "int8"),
    ("channels 50 % + QAT + KD", "pruned_qat_kd", "int8"),
)
WAYS = ("way", "seeds", "test accuracy", "against fp32", "parameters", "MACs", "bytes")
METHODS = (
    *("taught by", "seeds", "fp32 accuracy", "int8 accuracy", "drop, points"),
    *("drop against `ce`", "other class, % of images", "KL, 10⁻³ nats"),
)
LATENCY = ("file", "MACs", "ms, batch 1", "× fp32", "ms, batch 64", "× fp32")

Figures = dict[str, Any]
Runs = dict[str, dict[int, Figures]]  # row -> seed -> measurement


def rebuilt(results: Path) -> str:
    """Return all tables, and put them into the page beside the folder of results, if there is one.

    The page marks the place of each table by `<!-- NAME -->` and `<!-- end -->`; what is outside is
    kept.
    """
    found = {
        "ways": ways(read(results / "ways")),
        "latency": latency(read(results / "ways"), results / LATENCIES),
        "methods": methods(read(results / "methods")),
    }
    page = results.with_suffix(".md")
    if page.is_file():
        text = page.read_text(encoding="utf-8")
        for name, table in found.items():
            text = replaced(text, name, table)
        page.write_text(text, encoding="utf-8")
    return "\n\n".join(found.values())


def replaced(page: str, name: str, table: str) -> str:
    """Return a page with another table at the place that has the name."""
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(page):
        raise SystemExit(f"error: the page has no place for a table: <!-- {name} --> <!-- end -->")
    return place.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", page)


def read(folder: Path) -> Runs:
    """Read the measurements of a folder."""
    runs: Runs = {}
    for file in sorted(folder.glob("*_s*.json")):
        content = json.loads(file.read_text())
        runs.setdefault(content["row"], {})[content["seed"]] = content
    return runs


def ways(runs: Runs) -> str:
    """Format the ways to compress; differences from the fp32 file are over the same seeds."""
    rows = []
    for title, name, precision in ROWS:
        if name in runs:
            accuracies = percents(runs[name], f"{precision}/acc")
            first = next(iter(runs[name].values()))
            sizes = [first["params"], first["macs"], first[f"{precision}/bytes"]]
            plain = percents(runs.get("plain", {}), "fp32/acc")
            difference = "–" if title == "fp32" else paired(accuracies, plain)
            cells = [title, str(len(accuracies)), compare.spread(list(accuracies.values()))]
            rows.append([*cells, difference, *map(compare.grouped, sizes)])
    return compare.markdown(WAYS, rows, [])


def methods(runs: Runs) -> str:
    """Format what int8 costs the students of each method, the largest mean drop first."""
    drops = {name: values(by_seed, lambda run: run["drop"]) for name, by_seed in runs.items()}
    ranked = sorted(drops, key=lambda name: -statistics.mean(drops[name].values()))
    rows = []
    for name in ranked:
        moved = values(runs[name], lambda run: 100 * (1 - run["agreement"]))
        divergence = values(runs[name], lambda run: 1000 * run["kl"])
        difference = "–" if name == BASELINE else paired(drops[name], drops.get(BASELINE, {}))
        rows.append(
            [
                f"`{name}`",
                str(len(drops[name])),
                *(compare.spread(list(percents(runs[name], key).values())) for key in ACCURACIES),
                with_interval(list(drops[name].values())),
                difference,
                with_interval(list(moved.values())),
                with_interval(list(divergence.values())),
            ]
        )
    return compare.markdown(METHODS, rows, [])


ACCURACIES = ("fp32/acc", "int8/acc")


def latency(runs: Runs, file: Path) -> str:
    """Format the latencies of the files, beside their MACs; the machine stands below."""
    if not file.is_file():
        return "Latencies are not measured yet."
    found = json.loads(file.read_text())
    plain = found.get("plain/fp32")
    rows = []
    for title, name, precision in ROWS:
        times = found.get(f"{name}/{precision}")
        if times and name in runs:
            macs = next(iter(runs[name].values()))["macs"]
            cells = [cell for batch in ("batch1", "batch64") for cell in timed(times, plain, batch)]
            rows.append([title, compare.grouped(macs), *cells])
    return compare.markdown(LATENCY, rows, []) + f"\n\nMachine: {found['machine']}."


def timed(times: Figures, plain: Figures | None, batch: str) -> list[str]:
    """Format a latency with its range, and its ratio to that of the fp32 file."""
    mine = times[batch]
    ratio = f"{mine['ms'] / plain[batch]['ms']:.2f}" if plain else "–"
    return [f"{mine['ms']:.2f} ({mine['low']:.2f}–{mine['high']:.2f})", ratio]


def percents(by_seed: dict[int, Figures], key: str) -> dict[int, float]:
    """Return a fraction in percent by seed."""
    return values(by_seed, lambda run: 100 * run[key])


def values(by_seed: dict[int, Figures], figure: Callable[[Figures], float]) -> dict[int, float]:
    """Return a figure by seed; without rounding, equal ones could differ by -0.00."""
    return {seed: round(figure(run), 6) for seed, run in sorted(by_seed.items())}


def paired(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Format the mean difference over common seeds, with its interval."""
    common = sorted(ours.keys() & theirs.keys())
    return with_interval([ours[seed] - theirs[seed] for seed in common], "+.2f") if common else "–"


def with_interval(numbers: Sequence[float], form: str = ".2f") -> str:
    """Format a mean with its 95 % t interval; without one if the numbers have no spread.

    Example:
        >>> with_interval([0.1, 0.2, 0.3])
        '0.20 [-0.05, 0.45]'
    """
    mean = round(statistics.mean(numbers), 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    interval = t_interval(numbers)
    ends = "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
    return f"{mean:{form}}{ends}"
