"""Every method on one data set over some seeds, beside labels alone; finished runs are kept.

python scripts/compare_methods.py digits outputs/methods/digits teacher=resnet18 student=resnet8
python scripts/compare_methods.py cifar10_subset outputs/methods/cifar10 --images FOLDER …
python scripts/compare_methods.py digits outputs/methods/digits --table

Start it again after an interruption: what is finished is skipped. `--share 0/2` and `--share 1/2`
in two shells divide the runs between two cores.
"""

import argparse
from functools import partial
from pathlib import Path

import comparison as compare
from comparison import Result

from kd.config.compose import CONF_DIR

PER_CLASS = 1000
# What a method needs to pair these nets.
NEEDS = {"fsp": ["method.variant=project"]}
COLUMNS = ("method", "seeds", "test accuracy", "against `ce`, same seeds", "parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=["digits", "cifar10_subset"])
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("overrides", nargs="*", help="for all runs")
    parser.add_argument("--images", type=Path, help="CIFAR-10 as train/, test/ folders")
    methods = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))
    parser.add_argument("--methods", nargs="+", default=methods)
    compare.add_options(parser)
    options = parser.parse_args()
    if options.table:
        print(table(options.folder))
        return
    shared = [*data(options), f"paths.output={options.folder}"]
    for method, seed, folder in compare.jobs(options, options.methods):
        own = [f"method={method}", f"seed={seed}", *NEEDS.get(method, [])]
        overrides = [*own, *shared, *options.overrides]
        compare.attempt(method, seed, folder, partial(compare.train, folder, overrides))


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


def table(folder: Path) -> str:
    """Markdown: methods by mean test accuracy; those below `ce`, and those that failed, say so."""
    runs, failed = compare.collect(folder)
    return compare.markdown(COLUMNS, [row(m, runs) for m in compare.ranked(runs)], failed)


def row(method: str, runs: dict[str, list[Result]]) -> list[str]:
    accuracies = compare.scores(runs[method])
    difference = compare.against(runs, method, "ce")
    below = " (below)" if difference.startswith("-") else ""
    return [
        f"`{method}`",
        str(len(accuracies)),
        compare.spread(list(accuracies.values())),
        difference + below,
        compare.grouped(runs[method][0]["student/params"]),
    ]


if __name__ == "__main__":
    main()
