"""Mean and spread over the seeds of a folder of runs, as a Markdown table.

python scripts/table.py outputs/sweeps/NAME
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

COLUMNS = ("method", "teacher", "student", "seeds", "test accuracy", "teacher's", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="searched for result.json files")
    folder = parser.parse_args().folder
    results = [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]
    failed = [result for result in results if result["status"] != "completed"]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        if result["status"] == "completed":
            groups[result["method"], result["teacher"], result["student"]].append(result)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for key, runs in sorted(groups.items()):
        print("| " + " | ".join([*key, *figures(runs)]) + " |")
    if failed or not results:
        raise SystemExit(f"{len(failed)} of {len(results)} runs below {folder} did not complete")


def figures(runs: list[dict[str, Any]]) -> list[str]:
    """The columns behind the names: accuracies in percent, mean ± sample standard deviation."""
    teacher = runs[0]["teacher/test/acc"]
    return [
        str(len(runs)),
        spread([100 * run["test/acc"] for run in runs], ".2f"),
        "–" if teacher is None else f"{100 * teacher:.2f}",
        spread([run["fit_seconds"] for run in runs], ".1f"),
    ]


def spread(values: list[float], form: str) -> str:
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {format(statistics.stdev(values), form)}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
