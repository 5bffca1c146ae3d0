"""Running a chain: what is finished is kept, what broke goes on, chain.json says how it went."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from kd.chains.plan import ChainStage, plan
from kd.config.identity import hashed_part
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.checksums import write_json
from kd.io.locks import clear, exclusive_folder
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.training.evaluate import Result
from kd.training.run import run

log = logging.getLogger(__name__)

CHAIN = "chain.json"
_BASIS = "basis.txt"
_SHOWN = 4


def run_chain(overrides: Sequence[str], folder: Path) -> Result:
    """Run the stages that are not finished yet and leave `folder/chain.json`, whatever happens.

    Args:
        overrides: the command line.
        folder: the chain's folder; a chain that broke in it goes on.

    Returns:
        What chain.json holds: the last stage's figures, the costs of all stages, and every
        stage's result under `runs`.

    Raises:
        UserError: a mistake in the config, or the folder holds stages of another one.
        SystemExit: interrupted, with code 130 (Ctrl-C) or 143 (SIGTERM).
    """
    stages = plan(overrides, folder)
    with exclusive_folder(folder):
        _refuse_other(stages, folder)
        try:
            _train_missing(stages)
        finally:
            chain = _summary(stages)
            write_json(folder / CHAIN, chain)
    return chain


def _train_missing(stages: Sequence[ChainStage]) -> None:
    basis = b""  # what a stage starts from: the weights of the one before it
    for stage in stages:
        stands = _basis(stage) == basis
        if stands and _finished(stage):
            log.info("%s is finished", stage)
        else:
            _train(stage, basis, go_on=stands)
        basis = hashlib.sha256(RunFolder(stage.folder).weights.read_bytes()).hexdigest().encode()


def _basis(stage: ChainStage) -> bytes | None:
    """The hash of the weights that what lies in the stage's folder started from."""
    file = stage.folder / _BASIS
    return file.read_bytes() if file.is_file() else None


def _refuse_other(stages: Sequence[ChainStage], folder: Path) -> None:
    """Refuse a folder in which another chain, or this one otherwise configured, has run."""
    found = {path for path in folder.glob("*_*") if RunFolder(path).config.exists()}
    strange = sorted(path.name for path in found - {stage.folder for stage in stages})
    if strange:
        raise UserError(f"{folder} holds stages of another chain: {', '.join(strange)}; {_ADVICE}")
    for stage in stages:
        if stage.folder in found:
            saved = _saved(RunFolder(stage.folder).config)
            then, now = (dict(_flat(hashed_part(cfg))) for cfg in (saved, stage.cfg))
            if then != now:
                changes = _changes(then, now)
                raise UserError(
                    f"{stage} in {folder} was configured otherwise: {changes}; {_ADVICE}"
                )


def _saved(file: Path) -> DictConfig:
    try:
        saved = OmegaConf.load(file)
    except (OSError, ValueError, YAMLError) as error:
        raise UserError(f"{file} cannot be read: {error}; {_ADVICE}") from error
    if not isinstance(saved, DictConfig):
        raise UserError(f"{file} is damaged: it should hold a config; {_ADVICE}")
    return saved


_ADVICE = "choose another folder with hydra.run.dir=…, or delete this one"


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**now, **then} if then.get(key, ...) != now.get(key, ...)]
    pairs = [f"{key}={then.get(key, 'absent')}, not {now.get(key, 'absent')}" for key in keys]
    more = f"; and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return "; ".join(pairs[:_SHOWN]) + more


def _finished(stage: ChainStage) -> bool:
    return _result(stage).get("status") == "completed" and RunFolder(stage.folder).weights.is_file()


def _result(stage: ChainStage) -> Result:
    return {"status": "missing"} | (read_result(stage.folder) or {})


def _train(stage: ChainStage, basis: bytes, go_on: bool) -> None:
    """Run a stage, from its last checkpoint if it has one and may go on from it."""
    if go_on and RunFolder(stage.folder).last.is_file():
        log.info("%s goes on from its last checkpoint", stage)
        stage.cfg.resume = str(stage.folder)
    else:
        log.info("%s begins", stage)
        clear(stage.folder)
        write_atomic(stage.folder / _BASIS, basis)
    try:
        run(stage.cfg, stage.folder)
    except UserError as error:
        raise UserError(f"{stage}: {error}") from error


def _summary(stages: Sequence[ChainStage]) -> Result:
    """The chain's figures, flat, as far as there are any, and its runs'."""
    runs = [
        {"stage": stage.folder.name, "teacher/epoch": stage.cfg.teacher.epoch, **_result(stage)}
        for stage in stages
    ]
    finished = [run for run in runs if run["status"] == "completed"]
    whole = len(finished) == len(runs)
    first, last = stages[0].cfg, stages[-1].cfg
    summary: Result = {"status": "completed" if whole else "failed"}
    summary |= {role: last[role].name for role in ("method", "student", "data", "mode")}
    summary |= {"teacher": first.teacher.name, "seed": min(stage.cfg.seed for stage in stages)}
    if whole:
        keys = ("val/acc", "test/acc", "test/ece", "test/nll", "student/params")
        summary |= {key: runs[-1][key] for key in keys}
    else:
        broken = next(run for run in runs if run["status"] != "completed")
        summary["error"] = f"stage {broken['stage']}: {broken.get('error', broken['status'])}"
    for key in ("epochs", "fit_seconds", "teacher_forwards"):
        summary[key] = round(sum(run[key] for run in finished), 3)
    return summary | {"runs": runs}
