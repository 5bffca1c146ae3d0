"""Running and resuming of a chain."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from kd.chains.earlier import check_earlier
from kd.chains.plan import plan
from kd.chains.stage import ChainStage
from kd.chains.summary import CHAIN, ChainResult, chain_result, stage_result
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.checksums import write_json
from kd.io.locks import clear, exclusive_folder
from kd.io.regular_files import check_regular, read_bytes
from kd.io.run_folder import RunFolder
from kd.training.changed_inputs import changed_inputs
from kd.training.run import run

log = logging.getLogger(__name__)

_MAX_BASIS = 1000  # bytes; it is a hash


def run_chain(overrides: Sequence[str], folder: Path) -> ChainResult:
    """Run the stages that are not finished, and write `folder/chain.json` in every case.

    Args:
        overrides: the command line.
        folder: the chain's folder; an interrupted chain in it resumes.

    Returns:
        The content of chain.json, see `kd.chains.summary.chain_result`.

    Raises:
        UserError: a mistake in the config, or the folder holds another chain.
        SystemExit: interrupted, with code 130 (Ctrl-C) or 143 (SIGTERM).
    """
    stages = plan(overrides, folder)
    with exclusive_folder(folder):
        check_earlier(stages, folder)
        try:
            _run_unfinished(stages)
        finally:  # also after an error, which the summary records
            result = chain_result(stages)
            write_json(folder / CHAIN, result)
    return result


def _run_unfinished(stages: Sequence[ChainStage]) -> None:
    """Run each stage that is unfinished, or whose predecessor has new weights."""
    basis = b""  # the first stage has no predecessor
    for stage in stages:
        current = _basis(stage) == basis
        if current and _is_finished(stage):
            _check_unchanged(stage)
            log.info("%s: already finished", stage)
        else:
            _train(stage, basis, may_resume=current)
        basis = weights_hash(RunFolder(stage.folder).weights)


def weights_hash(file: Path) -> bytes:
    """Hash the tensors of a safetensors file, without its header.

    safetensors writes the metadata in the header in random order, so equal weights may lie in
    different files. Names and shapes, also in the header, follow from the config.
    """
    check_regular(file)
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")  # of the header, which these 8 bytes precede
    return hashlib.sha256(content[8 + size :]).hexdigest().encode()


def _basis(stage: ChainStage) -> bytes | None:
    """The recorded hash of the weights that the stage started from."""
    file = RunFolder(stage.folder).basis
    return read_bytes(file, _MAX_BASIS) if file.is_file() else None


def _is_finished(stage: ChainStage) -> bool:
    completed = stage_result(stage).get("status") == "completed"
    return completed and RunFolder(stage.folder).weights.is_file()


def _check_unchanged(stage: ChainStage) -> None:
    """Refuse a finished stage that would be another one now.

    Raises:
        UserError: names the data or the weights that have changed.
    """
    # Its settings are the recorded ones, see `check_earlier`.
    if changed := changed_inputs(stage.cfg, stage_result(stage)):
        raise UserError(
            f"{stage} is finished, but what it was made with has changed since: {changed}; choose "
            f"another folder with hydra.run.dir=…, or delete {stage.folder}"
        )


def _train(stage: ChainStage, basis: bytes, may_resume: bool) -> None:
    """Run a stage from its last checkpoint, or from the start in an empty folder."""
    if may_resume and RunFolder(stage.folder).last.is_file():
        log.info("%s: resuming from its last checkpoint", stage)
        stage.cfg.resume = str(stage.folder)
    else:
        log.info("%s: starting", stage)
        clear(stage.folder)
        # Before the run: one that is killed can then resume, if its basis is still the same.
        write_atomic(RunFolder(stage.folder).basis, basis)
    try:
        run(stage.cfg, stage.folder)
    except UserError as error:
        raise UserError(f"{stage}: {error}") from error
