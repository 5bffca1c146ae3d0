"""`python -m kd.chain`: distil through several nets in turn, or along a teacher's own training."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kd.config.command import command
from kd.config.headline import headline
from kd.io.task_figures import score, task_figure
from kd.validation import config_problems

log = logging.getLogger(__name__)

_COLUMNS = ("stage", "net", "taught by", "test", "val", "parameters", "seconds")


@command("chain", check=config_problems)
def main(cfg: DictConfig) -> float:
    """Run one chain and return the last student's validation accuracy."""
    from rich.console import Console
    from rich.table import Table

    if (line := headline(cfg, _nets(cfg))) is not None:
        log.info(line)
    from kd.chains.run import run_chain

    folder = Path(cfg.paths.run)
    try:
        chain = run_chain(HydraConfig.get().overrides.task, folder)
    except SystemExit:
        log.warning("interrupted; resume with the same command and hydra.run.dir=%s", folder)
        raise
    words = task_figure(chain).words
    table = Table(title=f"{words} of {chain['method']} on {chain['data']}, seed {chain['seed']}")
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number < 3 else "right")
    for row in _rows(chain["runs"]):
        table.add_row(*row)
    Console().print(table)
    return score(chain)


def _nets(cfg: DictConfig) -> str:
    """The nets of the chain in turn, or the teacher's epochs that one student learns from."""
    if cfg.stages is not None:
        return " → ".join(map(str, cfg.stages))
    return f"{cfg.teacher.name} after epochs {cfg.route} → {cfg.student.name}"


def _rows(runs: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for the first teacher, and one for every stage."""
    first, source = runs[0], runs[0]["teacher/source"]
    epoch = first["teacher/epoch"]
    by = f"epoch {epoch}, {source}" if epoch else source
    yield _row(first, "0", "teacher", "teacher/", "teacher/seconds", by)
    for number, run in enumerate(runs, start=1):
        # On a route every stage has the same teacher, at a later epoch of its training.
        figure = task_figure(run)
        at_epoch = f"epoch {run['teacher/epoch']} ({run[f'teacher/{figure.test}']:.4f})"
        by = at_epoch if epoch else run["teacher"]
        yield _row(run, str(number), "student", "", "fit_seconds", by)


def _row(
    run: dict[str, Any], number: str, role: str, prefix: str, seconds: str, by: str
) -> tuple[str, ...]:
    figure = task_figure(run)
    validation = f"{run[figure.val]:.4f}" if role == "student" else "–"
    parameters = f"{run[f'{role}/params']:,}".replace(",", " ")
    test = f"{run[f'{prefix}{figure.test}']:.4f}"
    return number, run[role], by, test, validation, parameters, f"{run[seconds]:.1f}"


if __name__ == "__main__":
    main()
