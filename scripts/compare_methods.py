"""Comparison of all methods on one data set over several seeds.

python scripts/compare_methods.py digits outputs/methods/digits teacher=resnet18 student=resnet8
python scripts/compare_methods.py cifar10_subset outputs/methods/cifar10 --images FOLDER …
python scripts/compare_methods.py digits outputs/methods/digits --table --keep FILE --cost FILE

After an interruption the same command resumes: finished runs are skipped. `--share 0/2` and
`--share 1/2` in two shells divide the runs between two cores. `kd.report folders=[FOLDER]` tests
the differences for significance. `kd_untrained` is `kd` with a teacher of random weights
(`control=untrained`), and so is every other method's name with this ending. `--cost` adds the
columns of a file that `benchmark/methods.py --keep` has written.
"""

import argparse
import json
from pathlib import Path

import command_line
import comparison as compare
from comparison import Result

Costs = dict[str, dict[str, float]]  # method -> ratio of times, mb and others

PER_CLASS = 1000  # training images of the CIFAR-10 subset
# An FSP matrix has one entry per pair of channels, so nets of different widths need projections.
# On digits ResNet-18 ends with maps of one position, which CWD refuses.
NEEDS = {"fsp": ["method.variant=project"], "cwd": ["method.tap=stage3"]}
UNTRAINED = "_untrained"
COLUMNS = ("method", "seeds", "test accuracy", "against `ce`, same seeds", "parameters")
COST_COLUMNS = ("step time / `kd`", "memory / `kd`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_options(parser)
    parser.add_argument("--methods", nargs="+", default=rows())
    parser.add_argument(
        "--keep", type=Path, help="with --table: add the runs to this JSON file, and show all of it"
    )
    parser.add_argument("--cost", type=Path, help="with --table: file of benchmark/methods.py")
    command_line.add_options(parser)
    options = command_line.parsed(parser)
    named = [row.removesuffix(UNTRAINED) for row in options.methods]
    command_line.check_names(parser, "--methods", named, command_line.all_methods())
    if options.keep is not None and not options.table:
        parser.error("--keep belongs to --table, which adds the finished runs to the file")
    if options.cost is not None and not options.table:
        parser.error("--cost belongs to --table, which gains two columns")
    if options.table:
        costs = read_costs(parser, options.cost) if options.cost is not None else None
        print(table(options.folder, options.keep, costs))
        return
    check_images(parser, options)
    shared = [*data(options), f"paths.output={options.folder}"]

    def train(method: str, seed: int, folder: Path) -> Result:
        return compare.train(folder, [*arm(method), f"seed={seed}", *shared, *options.overrides])

    compare.run_all(options, options.methods, train)


def rows() -> list[str]:
    """Return all methods for images, and two of them with an untrained teacher."""
    return [*command_line.image_methods(), f"kd{UNTRAINED}", f"fitnet{UNTRAINED}"]


def arm(row: str) -> list[str]:
    """Return a row's overrides.

    Example:
        >>> arm("fsp_untrained")
        ['method=fsp', 'method.variant=project', 'control=untrained']
    """
    method = row.removesuffix(UNTRAINED)
    control = ["control=untrained"] if row != method else []
    return [f"method={method}", *NEEDS.get(method, []), *control]


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what all runs have in common."""
    parser.add_argument("data", choices=["digits", "cifar10_subset"])
    parser.add_argument("folder", type=Path, help="parent of the run folders")
    parser.add_argument("overrides", nargs="*", help="of all runs, key=value")
    parser.add_argument("--images", type=Path, help="CIFAR-10 as train/, test/ folders")
    parser.add_argument(
        "--per-class",
        type=command_line.positive,
        default=PER_CLASS,
        help="training images of the CIFAR-10 subset",
    )


def check_images(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with one line if the images of the CIFAR-10 subset are missing."""
    if options.data != "cifar10_subset" or (options.folder / "images").exists():
        return
    if options.images is None:
        parser.error(
            "cifar10_subset needs --images FOLDER, with train/<class>/* and test/<class>/*"
        )
    for split in ("train", "test"):
        if not (options.images / split).is_dir():
            parser.error(f"--images {options.images}: has no folder {split}/<class>/*")


def data(options: argparse.Namespace) -> list[str]:
    """Return the overrides that select the data; create the subset of CIFAR-10 if needed."""
    if options.data == "digits":
        return ["data=digits"]
    root = options.folder / "images"
    if not root.exists():
        subset(options.images, root, options.per_class)
    names = ["data=image_folder", "recipe=cifar10", "data.name=cifar10_subset"]
    normalisation = ["data.mean=[0.4914,0.4822,0.4465]", "data.std=[0.2470,0.2435,0.2616]"]
    return [*names, *normalisation, f"data.root={root}"]


def subset(source: Path, target: Path, per_class: int = PER_CLASS) -> None:
    """Link all test images and, in order of name, the first training images of every class."""
    for split in ("train", "test"):
        for folder in sorted((source / split).iterdir()):
            (target / split / folder.name).mkdir(parents=True)
            images = sorted(folder.iterdir())
            for image in images[:per_class] if split == "train" else images:
                (target / split / folder.name / image.name).symlink_to(image.resolve())


def read_costs(parser: argparse.ArgumentParser, file: Path) -> Costs:
    """Return the cost of a step of each method in a file of `benchmark/methods.py`."""
    try:
        costs: Costs = json.loads(file.read_text())["methods"]
        known = all({"ratio", "mb"} <= cost.keys() for cost in costs.values())
        known = known and costs["kd"]["mb"] > 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        known = False
    if not known:
        parser.error(f"--cost {file}: is no file that benchmark/methods.py --keep has written")
    return costs


def table(folder: Path, keep: Path | None = None, costs: Costs | None = None) -> str:
    """Format methods by mean test accuracy; those below `ce` are marked, failed runs listed."""
    runs, failed = compare.collect(folder) if keep is None else compare.collect_in(keep, folder)
    if not runs and not failed:
        raise SystemExit(f"{folder}: holds no runs; leave --table out to train them")
    ranked = compare.ranked(runs)
    if costs is None:
        return compare.markdown(COLUMNS, [row(method, runs) for method in ranked], failed)
    rows = [[*row(method, runs), *cost(method, costs)] for method in ranked]
    return compare.markdown((*COLUMNS, *COST_COLUMNS), rows, failed)


def row(method: str, runs: dict[str, list[Result]]) -> list[str]:
    """Format a method's cells."""
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


def cost(row: str, costs: Costs) -> list[str]:
    """Format time and memory of a step relative to `kd`; – for a row that was not measured.

    Example:
        >>> measured = {"kd": {"ratio": 1.0, "mb": 200.0}, "crd": {"ratio": 1.9, "mb": 300.0}}
        >>> cost("crd", measured), cost("kd_untrained", measured), cost("ce", measured)
        (['1.90', '1.50'], ['1.00', '1.00'], ['–', '–'])
    """
    found = costs.get(row.removesuffix(UNTRAINED))
    if found is None:
        return ["–", "–"]
    return [f"{found['ratio']:.2f}", f"{found['mb'] / costs['kd']['mb']:.2f}"]


if __name__ == "__main__":
    main()
