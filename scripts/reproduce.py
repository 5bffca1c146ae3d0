"""Published experiments with several seeds: python scripts/reproduce.py NAME FOLDER [key=value …].

python scripts/reproduce.py mnist outputs/documents/mnist
python scripts/reproduce.py tutorial outputs/documents/tutorial --images FOLDER --seeds 5 6 7
python scripts/reproduce.py mnist outputs/documents/mnist --table --figure

After an interruption the same command resumes: finished runs are skipped. `--share 0/2` and
`--share 1/2` in two shells divide the runs. The checkpoints of a finished run are deleted; its
student's weights remain.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path

import command_line
import comparison as compare
from reproductions import families, guide, mnist, tutorial, views
from reproductions.experiment import Experiment
from reproductions.figures import write_png

from kd.io.run_folder import RunFolder

RESULTS = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "documents"
EXPERIMENTS = {
    "mnist": mnist.EXPERIMENT,
    "tutorial": tutorial.EXPERIMENT,
    "guide": guide.EXPERIMENT,
    "families": families.EXPERIMENT,
    "views": views.EXPERIMENT,
}


def main() -> None:
    options = arguments()
    experiment = EXPERIMENTS[options.name]
    if options.table:
        show(experiment, options)
        return
    options.seeds = experiment.seeds if options.seeds is None else options.seeds

    def train(row: str, seed: int, folder: Path) -> compare.Result:
        own = [word.format(seed=seed, folder=folder) for word in experiment.rows[row]]
        places = [f"seed={seed}", f"paths.output={options.folder}", *images(options)]
        return run(folder, [*own, *places, *options.overrides])

    rows = options.rows or [*experiment.rows]
    compare.run_all(options, rows, train, partial(finish, experiment))


def show(experiment: Experiment, options: argparse.Namespace) -> None:
    """Keep the results for the page, print its tables, and draw its figure if that is asked for."""
    target = RESULTS / options.name
    compare.keep(options.folder, target, experiment.files)
    runs, failed = compare.collect(target)
    print("\n\n".join([experiment.tables(runs, target), hours(runs), *failed]))
    if options.figure and experiment.figure is not None:
        write_png(partial(experiment.figure, runs), target.with_suffix(".png"))


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("folder", type=Path, help="parent of the run folders")
    parser.add_argument("overrides", nargs="*", help="of all runs, key=value")
    parser.add_argument("--images", type=Path, help="CIFAR-10 as train/, test/ folders of images")
    parser.add_argument("--figure", action="store_true", help="with --table: draw the figure")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these rows alone")
    command_line.add_options(parser)
    parser.set_defaults(seeds=None)
    options = command_line.parsed(parser)
    command_line.check_names(
        parser, "--rows", options.rows or [], [*EXPERIMENTS[options.name].rows]
    )
    return options


def images(options: argparse.Namespace) -> list[str]:
    """Return overrides that read CIFAR-10 from a folder of images, as a copy in JPEG files."""
    if options.images is None:
        return []
    names = ["data=image_folder", "recipe=cifar10", "data.name=cifar10_jpeg"]
    normalisation = ["data.mean=[0.4914,0.4822,0.4465]", "data.std=[0.2470,0.2435,0.2616]"]
    return [*names, *normalisation, f"data.root={options.images}"]


def run(folder: Path, overrides: list[str]) -> compare.Result:
    """Train a student, or do what `python -m kd.chain` does if there are stages."""
    from kd.chains.run import run_chain

    shared = ["trainer.enable_progress_bar=false", "logger=csv"]
    if any(override.startswith("stages=") for override in overrides):
        return run_chain([*shared, *overrides], folder)
    return compare.train(folder, [*shared, *overrides])


def finish(experiment: Experiment, row: str, folder: Path) -> None:
    """Add the experiment's own figures to a finished run, and delete its checkpoints."""
    if experiment.after is not None:
        experiment.after(row, folder)
    for checkpoints in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        shutil.rmtree(RunFolder(checkpoints).checkpoints, ignore_errors=True)


def hours(runs: dict[str, list[compare.Result]]) -> str:
    """State the machine time of all runs, with that of the teachers which they trained."""
    found = [result for results in runs.values() for result in results]
    students = sum(result["fit_seconds"] for result in found)
    teachers = sum(result.get("teacher/seconds") or 0.0 for result in found)
    return f"Machine time: students {students / 60:.0f} min, teachers {teachers / 60:.0f} min."


if __name__ == "__main__":
    main()
