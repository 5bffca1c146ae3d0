"""One run from config to result.json; a teacher's own training is such a run too."""

import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import nn

from kd.build.given import GivenParts
from kd.build.method import Method
from kd.build.parts import build_data, build_distiller, build_net, build_peers, distiller_class
from kd.build.trainer import build_trainer
from kd.compat import process_rank
from kd.config.compose import plain
from kd.config.identity import config_hash, settings
from kd.config.members import is_ensemble
from kd.config.record import write_record
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing, term_name
from kd.errors import UserError
from kd.io.locks import exclusive_folder
from kd.io.provenance import git_commit, library_versions
from kd.io.result_file import read_result, write_result
from kd.io.run_folder import RunFolder
from kd.io.weights import load_weights
from kd.objectives.base import Objective
from kd.training.ensemble import acquire_ensemble
from kd.training.error_hints import error_hint
from kd.training.evaluate import Ready, Result, finish
from kd.training.figures import check_drawing
from kd.training.resume import begin_from, find_own
from kd.training.teacher import AcquiredTeacher, acquire_teacher
from kd.validation.check import CheckedConfig, check_config
from kd.validation.data import refuse_unsupported

log = logging.getLogger(__name__)

# Lightning sets its level when imported, so Hydra's logging config cannot; what it says below a
# warning is advertisement and advice for other kinds of loaders.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
# A frozen teacher is meant to be in eval mode.
warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
# A run that is resumed goes on in its own folder.
warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
# Nothing is logged between epochs, so there is no interval to be too long.
warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller than")
# Figures of validation and test are synchronised already, by the metrics that they come from.
warnings.filterwarnings("ignore", r"It is recommended to use `self.log\(.*sync_dist=True")
# Lightning 2.6 with torch 2.15, nothing a user can act on.
warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")

NOTHING_GIVEN = GivenParts()
_ROLES = ("method", "teacher", "student", "data", "mode")


def run(
    cfg: DictConfig,
    folder: Path,
    given: GivenParts = NOTHING_GIVEN,
    callbacks: Sequence[Callback] = (),
    test: bool = True,
    hydra: DictConfig | None = None,
) -> Result:
    """Distil one student and leave `folder/result.json`, whatever happens.

    Args:
        cfg: the composed config.
        folder: the run's folder.
        given: parts that the caller has built, see `GivenParts`; the others come from the config.
        callbacks: what watches the student's training beside the configured callbacks.
        test: False leaves the test set alone; the status is then `untested`.
        hydra: Hydra's part of the config, recorded beside; None where the run is part of another.

    Returns:
        What result.json holds.

    Raises:
        UserError: a mistake in the config or the files, a diverging loss, or another process that
            is at work in the folder.
        SystemExit: interrupted, with code 130 (Ctrl-C) or 143 (SIGTERM).
    """
    # The other processes of several devices share the folder with the first.
    with nullcontext() if process_rank() else exclusive_folder(folder):
        return _run(cfg, folder, given, callbacks, test, hydra)


def _run(
    cfg: DictConfig,
    folder: Path,
    given: GivenParts,
    callbacks: Sequence[Callback],
    test: bool,
    hydra: DictConfig | None,
) -> Result:
    result: Result = {"status": "failed"}
    result |= {role: plain(OmegaConf.select(cfg, f"{role}.name")) for role in _ROLES}
    done = (read_result(folder) or {}).get("status") == "completed"  # to go on from, in another way
    begun = False
    try:
        checked = check_config(cfg, given)
        resume = _resume_point(cfg, folder)
        result |= {"seed": cfg.seed, "config_hash": config_hash(cfg), "git_commit": git_commit()}
        result |= {"threads": torch.get_num_threads()}
        if not RunFolder(folder).config.is_file():
            rank_zero_only(write_record)(folder, cfg, hydra)
        ready = _prepare(checked, folder, given, callbacks)
        begun = True
        rank_zero_only(_begin)(folder, cfg, hydra, result if done else None)
        _fit(ready.trainer, ready.distiller, ready.data, resume)
        result |= finish(cfg, folder, ready, test)
        result["status"] = "completed" if test else "untested"
    except (KeyboardInterrupt, SystemExit) as stop:
        result["error"] = "interrupted"
        raise SystemExit(_exit_code(stop)) from None
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        if begun or not done:  # a mistake costs no finished run
            rank_zero_only(write_result)(folder, result | {"versions": library_versions()})
    return result


def _begin(folder: Path, cfg: DictConfig, hydra: DictConfig | None, result: Result | None) -> None:
    """From here on the folder is this run's; `result` takes the place of a finished one."""
    write_record(folder, cfg, hydra)
    if result is not None:
        write_result(folder, result | {"error": "not finished"})


def _exit_code(stop: BaseException) -> int:
    """128 + the signal's number; Lightning itself ends with 0 or 1."""
    if isinstance(stop, SystemExit) and stop.code in (130, 143):
        return int(stop.code)  # a teacher's own run was interrupted, within this one
    return 143 if isinstance(stop, SIGTERMException) else 130


def _prepare(
    checked: CheckedConfig, folder: Path, given: GivenParts, callbacks: Sequence[Callback]
) -> Ready:
    cfg, method = checked.cfg, checked.method
    trainer = build_trainer(cfg, folder, settings(cfg), callbacks)
    _refuse_stray_process(trainer)
    start = _start_point(cfg)
    data = given.data or build_data(cfg)
    check_drawing(plain(cfg.figures), data)
    refuse_unsupported(cfg, data, method)
    _refuse_several_devices(cfg, trainer, method.objectives)
    acquired = _acquire(cfg, data, method, trainer, given.teacher)
    seed_everything(cfg.seed, verbose=False)
    distiller = build_distiller(
        cfg,
        method,
        checked.scheduler,
        student=_student(cfg, data, start) if given.student is None else given.student,
        num_classes=data.num_classes,
        **_teachers(cfg, data, acquired),
    )
    pairings = distiller.build_adapters(_zero_batch(data), _targets(data))
    rank_zero_only(_print_taps)(cfg, distiller, pairings)
    if cfg.compile is not None:
        distiller.compile_nets(cfg.compile)
    # Adapters drew random numbers; from here on every method starts from the same state.
    seed_everything(cfg.seed, verbose=False)
    return Ready(data, trainer, distiller, acquired)


def _fit(trainer: Trainer, distiller: Distiller, data: DataModule, resume: Path | None) -> None:
    try:
        trainer.fit(distiller, datamodule=data, ckpt_path=resume, weights_only=True)
    except (ValueError, MemoryError, OverflowError, RuntimeError) as error:
        if (told := error_hint(error, data.batch_size)) is None:
            raise
        raise told from error


def _acquire(
    cfg: DictConfig,
    data: DataModule,
    method: Method,
    trainer: Trainer,
    given: nn.Module | None,
) -> AcquiredTeacher | None:
    if not method.needs_teacher or distiller_class(cfg).teacher_kind != "pretrained":
        return None
    device = trainer.strategy.root_device
    if is_ensemble(cfg):
        return acquire_ensemble(cfg, data, method.teacher_taps, device, run)
    return acquire_teacher(cfg, data, method.teacher_taps, device, run, given)


def _teachers(
    cfg: DictConfig, data: DataModule, acquired: AcquiredTeacher | None
) -> dict[str, Any]:
    """Whoever teaches the student, as the mode's class takes it; itself needs no mention."""
    teacher_kind = distiller_class(cfg).teacher_kind
    if teacher_kind == "peers":
        return {"peers": build_peers(cfg, data)}
    if teacher_kind == "pretrained" and acquired is not None:
        return {"teacher": acquired.teacher, "test_logits": acquired.test_logits}
    return {}


def _refuse_stray_process(trainer: Trainer) -> None:
    """One that would train and write nothing, as it takes itself for a helper of the first."""
    if process_rank() and trainer.world_size == 1:
        raise UserError(
            "the environment (RANK, LOCAL_RANK or SLURM_PROCID) says that this is process "
            f"{process_rank()} of several, but trainer.devices is 1: unset it, or start one "
            "process, as hydra/launcher=slurm does for every job"
        )


def _refuse_several_devices(
    cfg: DictConfig, trainer: Trainer, objectives: dict[str, Objective]
) -> None:
    """Before a teacher is trained: what needs the whole batch cannot have it in parts."""
    if trainer.world_size == 1:
        return
    reasons = [(f"mode={cfg.mode.name}", distiller_class(cfg).one_device)]
    reasons += [(f"method={cfg.method.name}", term.one_device) for term in objectives.values()]
    for place, reason in reasons:
        if reason:
            raise UserError(f"{place} runs on one device: {reason}; use trainer.devices=1")


def _resume_point(cfg: DictConfig, folder: Path) -> Path | None:
    """The state to go on from: what this run left when it was interrupted, or one that is named."""
    own = RunFolder(folder)
    file = find_own(own, config_hash(cfg))
    if file is None and cfg.resume is not None:
        path = Path(cfg.resume)
        file = RunFolder(path).last if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"resume={cfg.resume}: there is no checkpoint {file}")
    if own.last.is_file() and (file is None or file.parent.resolve() != own.checkpoints.resolve()):
        raise UserError(
            f"{own.last} is of a run with another configuration, and would be lost; choose "
            "another folder with hydra.run.dir=…, delete this one, or go on from that state with "
            f"resume={own.last}"
        )
    if file is not None:
        begin_from(file, own, cfg.optimizer._target_)
        log.info("going on from %s", file)
    return file


def _start_point(cfg: DictConfig) -> Path | None:
    """Where the student's first weights lie; missing ones are found before a teacher is trained."""
    path = cfg.student.get("checkpoint")  # a teacher's own training has none
    if path is not None and not Path(path).exists():
        raise UserError(f"student.checkpoint={path}: there is no such file or folder")
    return None if path is None else Path(path)


def _student(cfg: DictConfig, data: DataModule, start: Path | None) -> nn.Module:
    net = build_net(cfg, "student", data)
    if start is not None:
        try:
            load_weights(net, start)
        except UserError as error:
            raise UserError(f"student.checkpoint={start}: {error}") from error
    return net


def _zero_batch(data: DataModule) -> torch.Tensor:
    return torch.zeros(2, *data.input_shape)


def _targets(data: DataModule) -> torch.Tensor:
    """Labels of the training pool; none where `refuse_unsupported` let no objective read them."""
    return torch.empty(0, dtype=torch.int64) if data.train_targets is None else data.train_targets


def _print_taps(cfg: DictConfig, distiller: Distiller, pairings: dict[str, Pairing]) -> None:
    table = Table(title="matched taps, shapes without the batch")
    for column in ("objective", f"student {cfg.student.name}", f"teacher {cfg.teacher.name}"):
        table.add_column(column)
    for pairing, (student, teacher, *_) in pairings.items():
        if teacher is None:
            continue
        for name, term in distiller.terms_of(pairing).items():
            for ours, theirs in zip(term.student_taps, term.teacher_taps, strict=False):
                pairs = (student, ours), (teacher, theirs)
                shapes = [list(outputs.taps[tap].shape[1:]) for outputs, tap in pairs]
                named = term_name(pairing, name), f"{ours} {shapes[0]}", f"{theirs} {shapes[1]}"
                table.add_row(*named)
    if table.row_count:
        Console().print(table)
