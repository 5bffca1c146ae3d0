"""A single net as the teacher: tested once, and live or cached in training."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from kd.build.method import Method
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.data.loader import TensorLoader
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.tasks import task_named
from kd.tasks.base import Task
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.two_views import TwoViewTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.fingerprints import DIGITS, recipe_hash, weights_digest
from kd.training.teacher_cache import TeacherCache
from kd.training.teacher_checks import check_outputs
from kd.training.teacher_classes import refuse_other_classes, teacher_classes
from kd.training.teacher_net import TeacherNet, Train, configured_teacher, given_net
from kd.training.teacher_normalisation import renormalise
from kd.training.teacher_update import with_update

log = logging.getLogger(__name__)

# Largest difference between a teacher's test figure and its record: other hardware may decide a
# few close images otherwise. 2e-3 is 20 of 10 000.
_ACCURACY_TOLERANCE = 2e-3


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
    classes = teacher_classes(cfg, data, given)
    refuse_other_classes(cfg, data, method, classes)
    found = configured_teacher(cfg, data, train) if given is None else given_net(cfg, given)
    seconds = time.perf_counter() - started if found.source == "trained now" else 0.0

    foreign = found.source in ("checkpoint", "given")
    images = renormalise(cfg, data, found.net, found.path, foreign)
    wanted = [] if method is None else method.teacher_taps
    live = FrozenTeacher(found.net, plain(cfg.teacher.taps), wanted, images, classes.map)
    live.to(device)
    _keep_taps_read(live, method, data)
    weights = weights_digest(found.net)
    cache = TeacherCache(cfg, data, live, weights)
    task = task_named(data.task)
    logits, figures = _tested(cache, live, task, data, device) if classes.same else (None, {})
    if figures:
        _log_figure(cfg, found, task, figures)
    if logits is not None:
        check_outputs(cfg.teacher.name, logits, data, foreign, found.source == "untrained")
    if found.path is not None and found.source != "checkpoint":
        _check_record(found.path, task, figures, cfg.teacher.epoch)
    teacher = with_update(cfg, live) or _of_all_views(cfg, data, cache)
    live.cpu()  # where the student's adapters are built; Lightning moves both to the device
    hashes = weights[:DIGITS], recipe_hash(found.path)
    about = (found.source, *hashes, seconds)
    return AcquiredTeacher(teacher, logits, figures, *about, classes=classes.result)


def _keep_taps_read(live: FrozenTeacher, method: Method | None, data: DataModule) -> None:
    """Drop the taps that no term of the method reads."""
    if method is not None and method.teacher_taps:
        example = data.random_input(2).to(live.device)
        live.taps.keep(method.select_taps(live.example_outputs(example)[""], example))


def _of_all_views(cfg: DictConfig, data: DataModule, cache: TeacherCache) -> Teacher:
    """Return the teacher for training, live or cached, of both views if batches have two."""
    first = cache.for_training()
    if not data.two_views:
        return first
    if first is cache.teacher:  # where the first views have no cache, nor have the second
        return TwoViewTeacher(first, first)
    second = TeacherCache(cfg, data, cache.teacher, cache.weights, second=True)
    return TwoViewTeacher(first, second.for_training())


def _tested(
    cache: TeacherCache, live: FrozenTeacher, task: Task, data: DataModule, device: torch.device
) -> tuple[Tensor | None, dict[str, float]]:
    """Return a classifier's logits on the test set [N, K], else None, and the test figures."""
    if not task.classifies:
        return None, dict(_evaluated(live, task, data, device))
    logits = _predict(cache.for_test(), data, device)
    return logits, {"acc": (logits.argmax(1) == data.test_targets).float().mean().item()}


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


def _log_figure(
    cfg: DictConfig, found: TeacherNet, task: Task, figures: Mapping[str, float]
) -> None:
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
