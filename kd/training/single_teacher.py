"""A single net as the teacher: its weights are loaded, found in the registry, or trained now."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import seed_everything
from omegaconf import DictConfig
from torch import Tensor, nn

from kd.build.given import GivenParts
from kd.build.method import Method
from kd.build.parts import build_net
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.data.loader import TensorLoader
from kd.errors import UserError
from kd.io.checkpoint.finite import refuse_not_finite
from kd.io.own_files import delete_run
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.io.weights import kept_epoch, read_file
from kd.tasks import task_named
from kd.tasks.base import Task
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.registry import Registry
from kd.training.acquired import AcquiredTeacher
from kd.training.controls import control_of
from kd.training.fingerprints import DIGITS, recipe_hash, weights_digest
from kd.training.start_weights import load_start
from kd.training.teacher_cache import TeacherCache
from kd.training.teacher_checks import check_outputs
from kd.training.teacher_normalisation import renormalise
from kd.training.teacher_run import teacher_data, teacher_key, teacher_run

log = logging.getLogger(__name__)

# Largest difference between a teacher's test figure and its record: other hardware may decide a
# few close images otherwise. 2e-3 is 20 of 10 000.
_ACCURACY_TOLERANCE = 2e-3

Train = Callable[[DictConfig, Path, GivenParts], Any]


class _Net(NamedTuple):
    """A teacher net with its weights, their source, and their folder or file if they have one."""

    net: nn.Module
    source: str
    path: Path | None = None


def acquire_teacher(
    cfg: DictConfig,
    data: DataModule,
    method: Method | None,
    device: torch.device,
    train: Train,
    given: nn.Module | None = None,
) -> AcquiredTeacher:
    """Build the teacher, load its weights, and test it once.

    Args:
        cfg: the run's config; `cfg.teacher` describes the net and where its weights come from.
        data: the run's data, in memory.
        method: the terms that read its taps; None: none is read.
        device: the device for testing.
        train: runs a config in a folder; called if the teacher has to be trained first.
        given: the teacher net with its weights; None: built from the config.

    Raises:
        UserError: the weights cannot be loaded, or their test figure differs from the recorded one.
    """
    started = time.perf_counter()
    found = _given(given) if given is not None else configured_teacher(cfg, data, train)
    seconds = time.perf_counter() - started if found.source == "trained now" else 0.0

    foreign = found.source in ("checkpoint", "given")
    images = renormalise(cfg, data, found.net, found.path, foreign)
    wanted = [] if method is None else method.teacher_taps
    live = FrozenTeacher(found.net, plain(cfg.teacher.taps), wanted, images).to(device)
    if method is not None and wanted:
        example = data.example_input(2).to(device)
        live.taps.keep(method.select_taps(live.example_outputs(example)[""], example))
    weights = weights_digest(found.net)
    cache = TeacherCache(cfg, data, live, weights)
    task = task_named(data.task)
    logits, figures = _tested(cache, live, task, data, device)
    _log_figure(cfg, found, task, figures)
    if logits is not None:
        check_outputs(cfg.teacher.name, logits, data, foreign)
    if found.path is not None and found.source != "checkpoint":
        _check_record(found.path, task, figures, cfg.teacher.epoch)
    teacher = cache.for_training()
    live.cpu()  # where the student's adapters are built; Lightning moves both to the device
    hashes = weights[:DIGITS], recipe_hash(found.path)
    return AcquiredTeacher(teacher, logits, figures, found.source, *hashes, seconds)


def _tested(
    cache: TeacherCache, live: FrozenTeacher, task: Task, data: DataModule, device: torch.device
) -> tuple[Tensor | None, dict[str, float]]:
    """Return a classifier's logits on the test set [N, K], else None, and the test figures."""
    if not task.classifies:
        return None, dict(_evaluated(live, task, data, device))
    logits = _predict(cache.for_test(), data, device)
    return logits, {"acc": (logits.argmax(1) == data.test_targets).float().mean().item()}


def _given(net: nn.Module) -> _Net:
    refuse_not_finite(net.state_dict(), "the teacher that was given")
    return _Net(net, "given")


def configured_teacher(cfg: DictConfig, data: DataModule, train: Train) -> _Net:
    """Build the net that the config describes, with its trained weights."""
    # Building a net draws random weights, which the loaded ones replace.
    with torch.random.fork_rng(devices=[]):
        seed_everything(cfg.teacher.training.seed, verbose=False)
        net = build_net(cfg, "teacher", data)
    if control_of(cfg) == "untrained":
        return _Net(net, "untrained")
    path, source = _weights(cfg, data, train)
    epoch = cfg.teacher.epoch
    key = cfg.teacher.get("checkpoint_key") if source == "checkpoint" else None
    load_start(net, path if epoch is None else kept_epoch(path, epoch), key)
    return _Net(net, source, path)


def _weights(cfg: DictConfig, data: DataModule, train: Train) -> tuple[Path, str]:
    """Return the folder or file of the teacher's weights, and their source."""
    if cfg.teacher.checkpoint is not None:
        return Path(cfg.teacher.checkpoint), "checkpoint"
    if data.limits.registry:
        raise UserError(
            f"teacher={cfg.teacher.name} has no checkpoint, and a teacher trained now could not be "
            f"found again: {data.limits.registry}. Train it with method=ce student="
            f"{cfg.teacher.name} and pass its folder as teacher.checkpoint"
        )
    registry = Registry(Path(cfg.paths.teachers))

    def train_in(folder: Path) -> None:
        log.info("teacher %s is not in %s yet: training it now", cfg.teacher.name, registry.root)
        run = teacher_run(cfg, folder)
        _resume(run, folder)
        train(run, folder, GivenParts(data=teacher_data(cfg, data)))

    path, trained = registry.get_or_train(teacher_key(cfg, data), train_in)
    return path, "trained now" if trained else "reused"


def _resume(run: DictConfig, folder: Path) -> None:
    """Resume a teacher's training that an earlier process did not finish, if it left a checkpoint.

    A damaged checkpoint is deleted with all of the unfinished training.
    """
    state = RunFolder(folder).last
    try:
        if state.is_file():
            read_file(state)
            log.info("resuming the teacher's training from %s", state)
            run.resume = str(folder)
    except UserError as error:
        log.warning("%s; the teacher is trained from the beginning", error)
        delete_run(folder)


def _predict(teacher: Teacher, data: DataModule, device: torch.device) -> Tensor:
    """Logits [N, K] of the test set in its order, float32, on the CPU."""
    loader = data.test_dataloader()
    if isinstance(loader, TensorLoader):
        teacher.prepare(loader, torch.arange(len(loader.targets)), lambda done, total: None)
    outputs = (teacher.outputs(batch.to(device)) for batch in loader)
    return torch.cat([each.logits.float().cpu() for each in outputs])


@torch.no_grad()
def _evaluated(
    teacher: FrozenTeacher, task: Task, data: DataModule, device: torch.device
) -> dict[str, float]:
    """Figures of the test set, of a task whose outputs are not kept."""
    evaluation = task.evaluation(data.num_classes, closely=True).to(device)
    for batch in (each.to(device) for each in data.test_dataloader()):
        outputs = teacher.outputs(batch).logits
        evaluation.update(task.answers(teacher.net, outputs), batch.target)
    return {name: value.item() for name, value in evaluation.compute().items()}


def _log_figure(cfg: DictConfig, found: _Net, task: Task, figures: Mapping[str, float]) -> None:
    epoch = cfg.teacher.epoch
    name = cfg.teacher.name if epoch is None else f"{cfg.teacher.name} after epoch {epoch}"
    where = found.source if found.path is None else f"{found.source}, {found.path}"
    value = figures[task.selection]
    log.info("teacher %s: test %s %.4f (%s)", name, task.figure, value, where)


def _check_record(
    folder: Path, task: Task, figures: Mapping[str, float], epoch: int | None
) -> None:
    """Compare the test figure with the one that the teacher's own training recorded.

    The record is about the weights that validation selected; other epochs were not tested.
    """
    result, files = read_result(folder), RunFolder(folder)
    if result is None:
        raise UserError(f"{files.result} is damaged; delete {folder} to train the teacher again")
    if epoch not in (None, result["best_epoch"]) or "test" in result.get("limited", []):
        return
    found: Any = result.get(task.test_key, "nan")
    recorded, now = float(found), figures[task.selection]
    if abs(recorded - now) > _ACCURACY_TOLERANCE:
        raise UserError(
            f"the teacher in {folder} has test {task.figure} {now:.4f}, but {recorded:.4f} was "
            f"recorded when it was trained: {files.weights.name} or the data have changed. Delete "
            "that folder to train the teacher again"
        )
