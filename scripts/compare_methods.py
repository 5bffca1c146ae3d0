"""Every method on one data set over some seeds, beside labels alone; finished runs are kept.

python scripts/compare_methods.py digits outputs/methods/digits teacher=resnet18 student=resnet8
python scripts/compare_methods.py cifar10_subset outputs/methods/cifar10 --images FOLDER …
python scripts/compare_methods.py digits outputs/methods/digits --table

Start it again after an interruption: what is finished is skipped. `--share 0/2` and `--share 1/2`
in two shells divide the runs between two cores.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works uninstalled

from kd.config import CONF_DIR, register_models
from kd.errors import UserError

PER_CLASS = 1000
# What a method needs to pair these nets.
NEEDS = {"fsp": ["method.variant=project"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=["digits", "cifar10_subset"])
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("overrides", nargs="*", help="for all runs")
    parser.add_argument("--images", type=Path, help="CIFAR-10 as train/, test/ folders")
    parser.add_argument("--methods", nargs="+", default=sorted(methods()))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", default="0/1", help="k/n: every n-th run, from the k-th")
    parser.add_argument("--table", action="store_true", help="print the table and run nothing")
    options = parser.parse_args()
    if options.table:
        print(table(options.folder))
        return
    k, n = map(int, options.share.split("/"))
    jobs = [(method, seed) for seed in options.seeds for method in options.methods]
    for method, seed in jobs[k::n]:
        train(options, method, seed)


def methods() -> Iterator[str]:
    return (path.stem for path in (CONF_DIR / "method").glob("*.yaml"))


def train(options: argparse.Namespace, method: str, seed: int) -> None:
    """One run in a folder of its own, unless it is there already."""
    from hydra import compose, initialize_config_dir

    from kd.run import run

    folder = options.folder / f"{method}_s{seed}"
    if status(folder) == "completed":
        return
    register_models(CONF_DIR)
    paths = [f"paths.output={options.folder}", f"paths.run={folder}"]
    fixed = [f"method={method}", f"seed={seed}", *NEEDS.get(method, []), *data(options), *paths]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=[*fixed, *options.overrides])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = run(cfg, folder)
        print(f"{method} seed {seed}: {result['test/acc']:.4f}", flush=True)
    except UserError as error:
        print(f"{method} seed {seed}: {error}", flush=True)


def data(options: argparse.Namespace) -> list[str]:
    if options.data == "digits":
        return ["data=digits"]
    root = options.folder / "images"
    if not root.exists():
        subset(options.images, root)
    names = ["data=image_folder", "recipe=cifar10", "data.name=cifar10_subset"]
    normalisation = ["data.mean=[0.4914,0.4822,0.4465]", "data.std=[0.2470,0.2435,0.2616]"]
    return [*names, *normalisation, f"data.root={root}"]


def subset(source: Path, target: Path) -> None:
    """Link the first 1 000 training images of every class, by name, and all test images."""
    for split in ("train", "test"):
        for folder in sorted((source / split).iterdir()):
            (target / split / folder.name).mkdir(parents=True)
            images = sorted(folder.iterdir())
            for image in images[:PER_CLASS] if split == "train" else images:
                (target / split / folder.name / image.name).symlink_to(image.resolve())


def status(folder: Path) -> str:
    path = folder / "result.json"
    return json.loads(path.read_text())["status"] if path.exists() else "missing"


def table(folder: Path) -> str:
    """Markdown: methods by mean test accuracy; those below `ce`, and those that failed, say so."""
    runs: dict[str, list[dict[str, Any]]] = {}
    failed = []
    for path in sorted(folder.glob("*_s*/result.json")):
        result = json.loads(path.read_text())
        name = path.parent.name.rsplit("_s", 1)[0]
        if result["status"] == "completed":
            runs.setdefault(name, []).append(result)
        else:
            failed.append(f"{path.parent.name}: {result.get('error')}")
    means = {name: statistics.mean(r["test/acc"] for r in found) for name, found in runs.items()}
    lines = ["| method | seeds | test accuracy | against `ce`, same seeds | parameters |"]
    lines.append("|---|--:|--:|--:|--:|")
    for name in sorted(means, key=lambda name: -means[name]):
        lines.append(row(name, runs))
    return "\n".join([*lines, *(f"\nfailed: {line}" for line in failed)])


def row(name: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    scores = {r["seed"]: 100 * r["test/acc"] for r in runs[name]}
    labels = {r["seed"]: 100 * r["test/acc"] for r in runs.get("ce", [])}
    paired = [scores[seed] - labels[seed] for seed in scores.keys() & labels.keys()]
    against = f"{spread(paired, '+.2f')}{' (below)' if statistics.mean(paired) < 0 else ''}"
    parameters = f"{runs[name][0]['student/params']:,}".replace(",", " ")
    shown = "–" if name == "ce" else against
    return (
        f"| `{name}` | {len(scores)} | {spread(list(scores.values()))} | {shown} | {parameters} |"
    )


def spread(values: list[float], form: str = ".2f") -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


if __name__ == "__main__":
    main()
