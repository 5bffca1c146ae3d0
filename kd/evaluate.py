"""`python -m kd.evaluate`: measure the student of a run beside its teacher and a baseline."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.config.arguments import typed_command
from kd.config.command import command

_DEVICES = ("auto", "cpu", "cuda", "mps")


@command("evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate the run, write the sheet and print its table."""
    from kd.build.data import build_data
    from kd.config.trust import given_trust
    from kd.deploy.evaluation.evaluate import evaluate
    from kd.deploy.evaluation.write import check_output, write_evaluation
    from kd.deploy.finished_run import FinishedRun
    from kd.errors import UserError
    from kd.io.regular_files import real_path

    _check(cfg)
    device, trust = _device(cfg.device), given_trust(cfg)
    run = FinishedRun(cfg.run, "run", trust, cfg.teacher_checkpoint, device)
    baseline = None
    if cfg.baseline is not None:
        baseline = FinishedRun(cfg.baseline, "baseline", trust, device=device)
        if real_path(baseline.folder) == real_path(run.folder):
            raise UserError(f"baseline={cfg.baseline} is the run itself; name another run")
    output = Path(cfg.output) if cfg.output else run.folder / "evaluation"
    check_output(output)
    data = build_data(cfg) if cfg.get("data") else None
    sheet = evaluate(run, baseline, data, device, cfg.robustness, _about())
    write_evaluation(sheet, output, cfg.figures)
    _print(sheet, output)


def _check(cfg: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from kd.errors import UserError

    for name in ("student", "teacher", "method", "optimizer"):
        given = [word for word in HydraConfig.get().overrides.task if word.startswith(f"{name}=")]
        if given:
            raise UserError(f"{given[0]}: the nets are those of run= and baseline=; remove it")
    if cfg.run is None:
        raise UserError("no run is given: add run=FOLDER, the folder of a finished run")
    for key in ("robustness", "figures"):
        if not isinstance(cfg[key], bool):
            raise UserError(f"{key}={cfg[key]}: must be true or false")
    if not isinstance(cfg.teacher_checkpoint, str | None):
        raise UserError(f"teacher_checkpoint={cfg.teacher_checkpoint}: must be a path")


def _device(name: Any) -> Any:
    import torch

    from kd.errors import UserError, nearest

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if name == "auto":
        name = next((each for each in ("cuda", "mps") if there[each]), "cpu")
    if name not in there:
        raise UserError(f"device={name}: {nearest(str(name), _DEVICES)}")
    if not there[name]:
        raise UserError(f"device={name}: this machine has none that torch can use; try device=cpu")
    return torch.device(name)


def _about() -> dict[str, str]:
    from time import strftime

    from kd.io.provenance import git_commit, library_versions

    versions = ", ".join(f"{name} {value}" for name, value in library_versions().items())
    return {
        "command": typed_command("evaluate"),
        "made": strftime("%Y-%m-%d %H:%M"),
        "commit": git_commit() or "not a git checkout",
        "versions": versions,
    }


def _print(sheet: Any, output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kd.deploy.evaluation.page import title
    from kd.deploy.evaluation.sheet import sections
    from kd.io.printable import printable

    console = Console()
    table = Table(title=escape(printable(f"{title(sheet)}, data {sheet.data}")))
    table.add_column("figure", overflow="fold")
    for net in sheet.nets:
        name = escape(printable(f"{net.role}\n{net.name}", lines=True))
        table.add_column(name, justify="right", overflow="fold")
    for rows in sections(sheet).values():
        for row in rows:
            table.add_row(row.heading, *row.cells, end_section=row is rows[-1])
    console.print(table)
    for line in (*sheet.notes, f"written: {output / 'evaluation.html'}"):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
