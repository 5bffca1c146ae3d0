"""Comparison of training procedures (modes, ensembles, chains) on digits over several seeds.

python scripts/compare_procedures.py outputs/procedures/digits teacher=resnet20 student=resnet8
python scripts/compare_procedures.py outputs/procedures/digits --rows dml takd --seeds 0 1 2 3 4
python scripts/compare_procedures.py outputs/procedures/digits --table

Overrides apply to all rows. After an interruption the same command resumes: finished runs are
skipped, and a chain continues at its unfinished stage. `--share 0/2` and `--share 1/2` in two
shells divide the runs. A chain trains for trainer.max_epochs in every stage; function matching
trains longer than the others unless trainer.max_epochs is given (see the column of epochs). Each
run has its own cache of teacher outputs, so that the numbers of teacher forwards are comparable.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import command_line
import comparison as compare
from comparison import Result

from kd.config.overrides import expand_shorthand

# Overrides of `python -m kd.train` for each row.
PROCEDURES = {
    "ce": ["method=ce"],
    "kd": [],
    "dml": ["experiment=dml"],
    "kdcl_mean": ["experiment=kdcl", "mode.distiller.ensemble=mean"],
    "kdcl_min_logit": ["experiment=kdcl", "mode.distiller.ensemble=min_logit"],
    "kdcl_min_loss": ["experiment=kdcl", "mode.distiller.ensemble=min_loss"],
    "one": ["experiment=one"],
    "pskd": ["experiment=pskd"],
    "cskd": ["experiment=cskd"],
    "byot": ["experiment=byot"],
    "mean_teacher": ["experiment=mean_teacher"],
    "tfkd": ["method=tfkd"],
    "ensemble_probabilities": ["experiment=ensemble", "teacher.combine=probabilities"],
    "ensemble_logits": ["experiment=ensemble", "teacher.combine=logits"],
    "ensemble_losses": ["experiment=ensemble", "teacher.combine=losses"],
    "ebkd": ["experiment=ebkd"],
    "ca_mkd": ["experiment=ca_mkd"],
    "eskd": ["experiment=eskd"],
    "function_matching": ["experiment=function_matching"],
}
# Overrides of `python -m kd.chain`, with {teacher}, {assistant} and {student} for nets, and
# {epoch_1}, {epoch_2} and {epoch_3} for the thirds of the teacher's training.
CHAINS = {
    "takd": ["stages=[{teacher},{assistant},{student}]"],
    "born_again": ["stages=[{student},{student},{student}]"],
    "rco": ["route=[{epoch_1},{epoch_2},{epoch_3}]", "teacher={teacher}", "student={student}"],
}
# Prefixes of rows with their own teachers, or none; an override `teacher=` is dropped for them.
OWN_TEACHER = (
    *("dml", "kdcl", "one", "pskd", "cskd", "byot", "mean_teacher"),
    *("ensemble", "ebkd", "ca_mkd"),
)
COLUMNS = (
    *("procedure", "seeds", "test accuracy", "against `ce`", "against `kd`"),
    *("epochs", "seconds", "teacher forwards"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="parent of the run folders")
    parser.add_argument("overrides", nargs="*", help="of all runs, key=value")
    rows = [*PROCEDURES, *CHAINS]
    parser.add_argument("--rows", nargs="+", default=rows, choices=rows, metavar="ROW")
    parser.add_argument("--assistant", default="resnet14", help="the assistant in takd")
    command_line.add_options(parser)
    options = command_line.parsed(parser)
    if options.table:
        print(table(options.folder))
        return
    compare.run_all(options, options.rows, partial(train, options))


def train(options: argparse.Namespace, row: str, seed: int, folder: Path) -> Result:
    """Run a row of either kind."""
    return (chain if row in CHAINS else procedure)(options, row, seed, folder)


def procedure(options: argparse.Namespace, row: str, seed: int, folder: Path) -> Result:
    """Run a row of PROCEDURES."""
    own_teacher = row.startswith(OWN_TEACHER)
    given = [o for o in options.overrides if not (own_teacher and o.startswith("teacher="))]
    own = [*PROCEDURES[row], f"seed={seed}", *paths(options, folder)]
    return compare.train(folder, [*own, *given])


def chain(options: argparse.Namespace, row: str, seed: int, folder: Path) -> Result:
    """Run a row of CHAINS."""
    from hydra import compose

    from kd.chains.run import run_chain

    nets = {"teacher": "resnet20", "student": "resnet8", "assistant": options.assistant}
    given = dict(o.split("=", 1) for o in options.overrides if o.split("=")[0] in nets)
    rest = [expand_shorthand(o) for o in options.overrides if o.split("=")[0] not in nets]
    trained = compose("train", overrides=rest).teacher.training.trainer.max_epochs
    thirds = {f"epoch_{k}": max(k, trained * k // 3) for k in (1, 2, 3)}
    own = [word.format(**nets | given, **thirds) for word in CHAINS[row]]
    return run_chain([*own, f"seed={seed}", *paths(options, folder), *rest], folder)


def paths(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return overrides for a shared registry of teachers and a cache of the run's own."""
    return [f"paths.output={options.folder}", f"paths.cache={folder / 'cache'}"]


def table(folder: Path) -> str:
    """Format procedures by mean test accuracy, with differences from `ce` and `kd`."""
    runs, failed = compare.collect(folder)
    return compare.markdown(COLUMNS, [line(row, runs) for row in compare.ranked(runs)], failed)


def line(row: str, runs: dict[str, list[Result]]) -> list[str]:
    """Format a procedure's cells; costs are medians over seeds."""
    accuracies = list(compare.scores(runs[row]).values())
    costs = {
        key: statistics.median(result[key] for result in runs[row])
        for key in ("epochs", "fit_seconds", "teacher_forwards")
    }
    return [
        f"`{row}`",
        str(len(accuracies)),
        compare.spread(accuracies),
        compare.against(runs, row, "ce"),
        compare.against(runs, row, "kd"),
        compare.grouped(costs["epochs"]),
        f"{costs['fit_seconds']:.1f}",
        compare.grouped(costs["teacher_forwards"]),
    ]


if __name__ == "__main__":
    main()
