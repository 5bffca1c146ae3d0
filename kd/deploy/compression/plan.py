"""The compressions that a command asks for, checked before anything is trained or written."""

import contextlib
import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from kd.build.parts import distiller_class
from kd.config.compose import CONF_DIR, plain
from kd.config.experiment import differing, experiment_settings, name_differences
from kd.config.record import read_record
from kd.config.trust import given_trust
from kd.deploy.compression.model_file import check_possible
from kd.deploy.compression.pareto import SHEET
from kd.deploy.compression.settings import Compression, check_ratio
from kd.deploy.compression.trained_peer import taught_by_peer
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError, nearest
from kd.io.run_folder import RunFolder
from kd.io.task_figures import task_of
from kd.tasks import TASKS
from kd.tasks.image_classification import ImageClassification
from kd.validation.check import check_config
from kd.validation.method import check_objectives
from kd.validation.optimizer import optimizer_problems, parts_optimizer
from kd.validation.views import views_wanted

log = logging.getLogger(__name__)

LR_SHARE = 0.1  # of the run's learning rate: the student is trained already


@dataclass(frozen=True)
class Plan:
    """What is compressed, and how.

    Attributes:
        run: whose student is compressed.
        steps: how, each with the config of its run.
        output: folder of the table; a single compression has its run there as well.
        max_drop: the most accuracy that may be lost on validation, in points.
        force: files that lose more are written as well.
        command: as typed.
    """

    run: FinishedRun
    steps: list[tuple[Compression, DictConfig]]
    output: Path
    max_drop: float
    force: bool = False
    command: str = ""

    @classmethod
    def from_settings(cls, cfg: DictConfig, command: str = "") -> Self:
        """Read and check the settings of `conf/compress.yaml`.

        Raises:
            UserError: a setting is impossible, the run cannot be compressed, or the output folder
                holds something else.
        """
        if cfg.run is None:
            raise UserError("no run is given: add run=FOLDER")
        single = Compression(cfg.prune, cfg.ratio, cfg.quantise, cfg.max_drop)
        _check_number("max_epochs", cfg.max_epochs, (int,))
        _check_number("lr", cfg.lr, (int, float))
        for name, value in {"search": cfg.walk, "force": cfg.force}.items():
            if not isinstance(value, bool):
                raise UserError(f"{name}={value}: must be true or false")
        wanted = _ratios(single, cfg) if cfg.walk else [single]
        method = None if cfg.taught_by is None else method_config(str(cfg.taught_by))
        run = FinishedRun(str(cfg.run), "run", given_trust(cfg), cfg.teacher_checkpoint)
        _check_task(run)
        label = "search" if cfg.walk else single.label
        given = Path(str(cfg.run)).absolute()  # of a chain: not among its stages
        default = given.with_name(f"{given.name}_{label}")
        output = Path(str(cfg.output)) if cfg.output else default
        steps = []
        for each in wanted:
            folder = output / each.label if cfg.walk else output
            planned = plan_config(run, each, folder, method, cfg.max_epochs, cfg.lr)
            _check_folder(planned, folder)
            steps.append((each, planned))
        if cfg.walk:
            _check_search_folder(output, [each.label for each in wanted])
        check_plan(run, steps[0][1])
        check_possible(run, single)
        return cls(run, steps, output, float(cfg.max_drop), cfg.force, command)


def plan_config(
    run: FinishedRun,
    compression: Compression | None,
    folder: Path,
    method: DictConfig | None = None,
    max_epochs: int | None = None,
    lr: float | None = None,
) -> DictConfig:
    """Return the config of the run that compresses: that of the finished run, with few changes.

    Args:
        run: whose student is compressed.
        compression: how; None: the student trains on as it is, for a comparison.
        folder: of the new run.
        method: another method; None: the run's.
        max_epochs: None: half of those of the run.
        lr: None: `LR_SHARE` of the run's.
    """
    cfg = copy.deepcopy(run.cfg)
    epochs = int(run.result.get("epochs", 1))
    with open_dict(cfg):
        taught_by_peer(cfg, run)
        cfg.trainer.max_epochs = max_epochs or max(1, epochs // 2)
        cfg.optimizer.lr = cfg.optimizer.lr * LR_SHARE if lr is None else lr
        cfg.student.checkpoint = cfg.resume = None
        cfg.paths.run = str(folder)
        how = {} if compression is None else compression.record()
        cfg.compression = {"run": run.result["config_hash"], **how}
        if method is not None:
            cfg.method = method
            _adapt_to_method(cfg)
    return cfg


def _adapt_to_method(cfg: DictConfig) -> None:
    """Remove a second view and replace an optimizer that another method has no use for."""
    terms = check_objectives(cfg, [])
    if not views_wanted(cfg, terms):
        cfg.data.pop("second", None)
    if parts_optimizer(cfg) is not None and [*optimizer_problems(cfg, terms)]:
        plain_sgd = OmegaConf.load(CONF_DIR / "optimizer" / "sgd.yaml")
        kept = {k: cfg.optimizer[k] for k in plain_sgd if k in cfg.optimizer and k != "_target_"}
        log.warning(
            "method=%s: trains with optimizer=sgd, as its loss has no two parts", cfg.method.name
        )
        cfg.optimizer = OmegaConf.merge(plain_sgd, kept)


def check_plan(run: FinishedRun, cfg: DictConfig) -> None:
    """Refuse a method that does not fit, and a teacher that would have to be trained.

    Raises:
        UserError: lists the mistakes.
    """
    checked = check_config(cfg)
    pretrained = distiller_class(cfg).teacher_kind == "pretrained"
    if pretrained and any(term.needs_teacher for term in checked.method.objectives.values()):
        run.check_teacher(cfg)


def method_config(name: str) -> DictConfig:
    """Compose a method of the library.

    Raises:
        UserError: there is no such method; names the nearest.
    """
    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():
            stack.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        names = GlobalHydra.instance().config_loader().get_group_options("method")
        if name not in names:
            raise UserError(f"method={name}: there is no such method; {nearest(name, names)}")
        cfg = compose("train", overrides=[f"method={name}"])
    # Unresolved: what refers to the run's other settings takes their values.
    return cast(DictConfig, OmegaConf.create(cast(Any, OmegaConf.to_container(cfg.method))))


def _check_task(run: FinishedRun) -> None:
    """Refuse students of other tasks than images, whose losses in accuracy are bounded here."""
    task = TASKS[task_of(run.result)]
    if isinstance(task, ImageClassification):
        return
    instead = (
        "kd.export precision=int8 makes a smaller file"
        if task.classifies
        else "train a smaller one: python -m kd.train student.net.width=0.5"
    )
    raise UserError(
        f"run={run.folder}: its task is {task.title}, and pruning and fake quantisation are of "
        f"classifiers of images; {instead}"
    )


def _check_folder(cfg: DictConfig, folder: Path) -> None:
    """Refuse a folder that holds anything but this very run, finished or not."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not RunFolder(folder).config.is_file():
        what = "holds no compressed run" if folder.is_dir() else "is a file"
        raise UserError(f"output={folder} exists and {what}; choose another folder")
    changes = differing(experiment_settings(read_record(folder)), experiment_settings(cfg))
    trained = RunFolder(folder).last.is_file() or RunFolder(folder).weights.is_file()
    if changes and trained:  # not what a refused command has left
        raise UserError(
            f"output={folder} holds another run, with {name_differences(changes)}; choose another "
            "folder"
        )


def _check_search_folder(folder: Path, labels: list[str]) -> None:
    """Refuse a folder that holds anything but earlier searches."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder} exists and is a file; choose another folder")
    for path in folder.iterdir() if folder.is_dir() else ():
        known = path.name in (*labels, *SHEET)
        if not known and not OmegaConf.select(_record(path), "compression"):
            raise UserError(
                f"output={folder} holds {path.name}, which is of no search; choose another folder"
            )


def _record(folder: Path) -> DictConfig:
    is_run = RunFolder(folder).config.is_file()
    return read_record(folder) if is_run else OmegaConf.create()


def _ratios(single: Compression, cfg: DictConfig) -> list[Compression]:
    if single.prune == "none":
        raise UserError("search=true walks pruning ratios; choose prune=channels or magnitude")
    ratios: Any = plain(cfg.ratios)
    if not isinstance(ratios, list) or not ratios:
        raise UserError(f"ratios={ratios}: must be a list such as [0.3,0.5]")
    for ratio in ratios:
        check_ratio("ratios", ratio)
    return [replace(single, ratio=ratio) for ratio in dict.fromkeys(sorted(ratios))]


def _check_number(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if value is not None and (type(value) not in kinds or not 0 < value < float("inf")):
        whole = "whole " if kinds == (int,) else ""
        raise UserError(f"{name}={value}: must be a {whole}number above 0")
