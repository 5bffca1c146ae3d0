"""What the comparisons share: runs in folders that are kept, and figures over the same seeds."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works uninstalled

from kd.config.compose import CONF_DIR, register_models
from kd.config.overrides import expand_shorthand

Result = dict[str, Any]
FILES = ("chain.json", "result.json")  # a chain's own summary, or a single run's


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", default="0/1", help="k/n: every n-th run, from the k-th")
    parser.add_argument("--table", action="store_true", help="print the table and run nothing")


def jobs(options: argparse.Namespace, rows: Sequence[str]) -> Iterator[tuple[str, int, Path]]:
    """Row, seed and folder of every run of this share that is not finished."""
    k, n = map(int, options.share.split("/"))
    for row, seed in [(row, seed) for seed in options.seeds for row in rows][k::n]:
        folder = options.folder / f"{row}_s{seed}"
        if read(folder).get("status") != "completed":
            yield row, seed, folder


def attempt(row: str, seed: int, folder: Path, task: Callable[[], Result]) -> None:
    """Run one job; one that fails says so, in its folder as well, and the others go on."""
    from hydra import initialize_config_dir

    from kd.io.result_file import write_result

    register_models(CONF_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            said = f"{task()['test/acc']:.4f}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if not read(folder):  # it failed before it began
            write_result(folder, {"status": "failed", "error": said})
    print(f"{row} seed {seed}: {said}", flush=True)


def train(folder: Path, overrides: Sequence[str]) -> Result:
    """What `python -m kd.train` does in this folder."""
    from hydra import compose

    from kd.training.run import run

    cfg = compose("train", overrides=[f"paths.run={folder}", *map(expand_shorthand, overrides)])
    return run(cfg, folder)


def read(folder: Path) -> Result:
    """What a run or a chain left in its folder; nothing, if there is nothing yet."""
    for name in FILES:
        if (folder / name).exists():
            found: Result = json.loads((folder / name).read_text())
            return found
    return {}


def collect(folder: Path) -> tuple[dict[str, list[Result]], list[str]]:
    """The finished runs below a folder by row, and a line for each that failed."""
    runs: dict[str, list[Result]] = {}
    failed = []
    for path in sorted(path for path in folder.glob("*_s*") if path.is_dir()):
        result = read(path)
        if result.get("status") == "completed":
            runs.setdefault(path.name.rsplit("_s", 1)[0], []).append(result)
        elif result:
            error = str(result.get("error", "unfinished")).split("\n")[0]
            failed.append(f"{path.name}: {error}")
    return runs, failed


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], failed: Sequence[str]) -> str:
    """A table whose first column is text and whose others are numbers; what failed, below."""
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*table, *(f"\nfailed: {line}" for line in failed)])


def ranked(runs: dict[str, list[Result]]) -> list[str]:
    """The rows, the best mean test accuracy first."""
    return sorted(runs, key=lambda row: -statistics.mean(scores(runs[row]).values()))


def scores(results: Sequence[Result]) -> dict[int, float]:
    """Test accuracy in percent by seed."""
    # An accuracy is a float32: of equal ones the difference must be 0, not -0.00.
    return {result["seed"]: round(100 * result["test/acc"], 4) for result in results}


def against(runs: dict[str, list[Result]], row: str, baseline: str) -> str:
    """The difference to another row over the seeds that both have: mean ± standard deviation."""
    ours, theirs = scores(runs[row]), scores(runs.get(baseline, []))
    paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return spread(paired, "+.2f") if paired and row != baseline else "–"


def spread(values: Sequence[float], form: str = ".2f") -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    mean = round(statistics.mean(values), 6) + 0.0  # + 0.0: no negative zero
    return f"{mean:{form}}{deviation}"


def grouped(number: float) -> str:
    """A whole number with a space between thousands."""
    return f"{number:,.0f}".replace(",", " ")
