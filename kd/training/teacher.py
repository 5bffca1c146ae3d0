"""Where an offline run's teacher comes from: a checkpoint, the registry, or training it now."""

import copy
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from kd.build.given import GivenParts
from kd.build.parts import build_net
from kd.config.compose import plain
from kd.config.identity import content_hash
from kd.data.base import DataModule
from kd.data.loader import TensorLoader
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.io.weights import kept_epoch, load_weights, read_file
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.registry import Registry
from kd.training.teacher_cache import Caching

log = logging.getLogger(__name__)

# A teacher's accuracy may differ by this much from its record on another machine.
_ACCURACY_TOLERANCE = 2e-3
# Where a teacher's training runs and how it reports does not make it another teacher.
_NOT_IN_KEY = ("accelerator", "devices", "enable_progress_bar")

Train = Callable[[DictConfig, Path, GivenParts], Any]


class AcquiredTeacher(NamedTuple):
    """A teacher that is ready: it, its test logits [N, K] and accuracy, and its cost.

    members: the test accuracy of each by name, where the teacher is several nets.
    """

    teacher: Teacher
    test_logits: Tensor
    test_acc: float
    source: str
    seconds: float
    members: Mapping[str, float] = {}


def acquire_teacher(
    cfg: DictConfig,
    data: DataModule,
    wanted: Iterable[str],
    device: torch.device,
    train: Train,
    given: nn.Module | None = None,
) -> AcquiredTeacher:
    """Make the teacher net, give it its weights, and test it once.

    Args:
        cfg: the run's config; `cfg.teacher` says which net and whence.
        data: the run's data.
        wanted: the taps that the objectives read.
        device: where the teacher is tested.
        train: runs a config in a folder; called where the teacher has to be trained now.
        given: the teacher net with its weights; None: made as configured.

    Raises:
        UserError: the weights cannot be loaded, or their accuracy is not the recorded one.
    """
    started = time.perf_counter()
    net, source, path = (given, "given", None) if given else _trained_net(cfg, data, train)
    seconds = time.perf_counter() - started if source == "trained now" else 0.0

    live = FrozenTeacher(net, plain(cfg.teacher.taps), wanted).to(device)
    caching = Caching(cfg, data, live)
    logits = _answers(caching.of_test(), data, device)
    accuracy = (logits.argmax(1) == data.test_targets).float().mean().item()
    epoch = cfg.teacher.epoch
    name = cfg.teacher.name if epoch is None else f"{cfg.teacher.name} after epoch {epoch}"
    where = source if path is None else f"{source}, {path}"
    log.info("teacher %s: test accuracy %.4f (%s)", name, accuracy, where)
    if path is not None and source != "checkpoint":
        _compare_with_record(path, accuracy, epoch)
    teacher = caching.of_training()
    live.cpu()  # beside the student, while adapters are made; Lightning moves both
    return AcquiredTeacher(teacher, logits, accuracy, source, seconds)


def _trained_net(cfg: DictConfig, data: DataModule, train: Train) -> tuple[nn.Module, str, Path]:
    """Build the teacher net with its trained weights; return also their source and path."""
    with torch.random.fork_rng(devices=[]):
        seed_everything(cfg.teacher.training.seed, verbose=False)
        net = build_net(cfg, "teacher", data)
    path, source = _weights(cfg, data, net, train)
    epoch = cfg.teacher.epoch
    load_weights(net, path if epoch is None else kept_epoch(path, epoch))
    return net, source, path


def _answers(teacher: Teacher, data: DataModule, device: torch.device) -> Tensor:
    """Logits [N, K] of the test set in its order, float32 on the CPU."""
    loader = data.test_dataloader()
    if isinstance(loader, TensorLoader):
        teacher.prepare(loader, torch.arange(len(loader.targets)), lambda done, wanted: None)
    answers = (teacher.outputs(batch.to(device)) for batch in loader)
    return torch.cat([answer.logits.float().cpu() for answer in answers])


def _weights(cfg: DictConfig, data: DataModule, net: nn.Module, train: Train) -> tuple[Path, str]:
    if cfg.teacher.checkpoint is not None:
        return Path(cfg.teacher.checkpoint), "checkpoint"
    if data.limits.registry:
        raise UserError(
            f"teacher={cfg.teacher.name} has no checkpoint, and a teacher trained now could not be "
            f"found again: {data.limits.registry}. Train it with method=ce student="
            f"{cfg.teacher.name} and pass its folder as teacher.checkpoint"
        )
    registry = Registry(Path(cfg.paths.teachers))
    name = teacher_key(cfg, data)

    def train_in(folder: Path) -> None:
        log.info("teacher %s is not in %s yet: training it now", cfg.teacher.name, registry.root)
        run = teacher_run(cfg, folder)
        _go_on(run, folder)
        train(run, folder, GivenParts(data=_teacher_data(cfg, data)))

    path, trained = registry.get_or_train(name, train_in)
    return path, "trained now" if trained else "reused"


def _go_on(run: DictConfig, folder: Path) -> None:
    """Let a teacher's training go on where a process that died left it, if it left a state."""
    state = RunFolder(folder).last
    try:
        if state.is_file():
            read_file(state)
            log.info("its training goes on from %s", state)
            run.resume = str(folder)
    except UserError as error:
        log.warning("%s; its training begins anew", error)
        shutil.rmtree(folder)


def teacher_key(cfg: DictConfig, data: DataModule) -> str:
    """Name a teacher by all that its weights depend on: net, data, view and training."""
    training = plain(cfg.teacher.training)
    training["trainer"] = {k: v for k, v in training["trainer"].items() if k not in _NOT_IN_KEY}
    content = {
        "net": plain(cfg.teacher.net),
        "data": data.fingerprint,
        "view": plain(cfg.data.get("view")),
        "training": training,
    }
    if cfg.teacher.epoch is not None:
        content["epochs"] = "kept"  # one entry, whichever epoch is read
    return f"{cfg.teacher.name}-{cfg.data.name}-{content_hash(content)}"


def teacher_run(cfg: DictConfig, folder: Path) -> DictConfig:
    """Turn a run's config into that of its teacher's own training: the teacher is the student."""
    training = plain(cfg.teacher.training)
    run = copy.deepcopy(cfg)
    with open_dict(run):
        run.paths.run = str(folder)
        run.student = {key: plain(cfg.teacher[key]) for key in ("name", "net", "taps")}
        run.teacher.name, run.teacher.net, run.teacher.taps = "none", None, {}
        run.data.batch_size, run.data.seed = training["batch_size"], training["seed"]
        run.data.views, run.data.augment = None, None
        for part in ("method", "mode", "optimizer", "scheduler", "trainer", "seed"):
            run[part] = training[part]
        run.resume, run.keep_epochs = None, cfg.teacher.epoch is not None
        run.figures = False
    OmegaConf.set_struct(run, True)
    return run


def _teacher_data(cfg: DictConfig, data: DataModule) -> DataModule:
    training = cfg.teacher.training
    settings = {"batch_size": training.batch_size, "seed": training.seed}
    # Every view of the space, and nothing else: what limits or mixes the student's images is
    # the student's.
    return data.variant(**settings, views=None, augment=None)


def _compare_with_record(folder: Path, accuracy: float, epoch: int | None) -> None:
    """Only the weights that validation chose were tested when the teacher was trained."""
    result, files = read_result(folder), RunFolder(folder)
    if result is None:
        raise UserError(f"{files.result} is damaged; delete that folder to train it anew")
    if epoch not in (None, result["best_epoch"]):
        return
    recorded = result["test/acc"]
    if abs(recorded - accuracy) > _ACCURACY_TOLERANCE:
        raise UserError(
            f"the teacher in {folder} scores {accuracy:.4f} on the test set, but {recorded:.4f} "
            f"was recorded when it was trained: its {files.weights.name} or the data changed. "
            "Delete that folder to train it anew"
        )
