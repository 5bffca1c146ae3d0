"""Compression of a finished run's student: one more run, under the same teacher and method."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from kd.build.given import GivenParts
from kd.config.experiment import differing, experiment_settings, name_differences
from kd.config.record import read_record
from kd.deploy.compression.channels import remove_channels
from kd.deploy.compression.fake_quantise import fake_quantise
from kd.deploy.compression.magnitude import MagnitudePruning, gzip_bytes
from kd.deploy.compression.quantisation_schedule import QuantisationSchedule
from kd.deploy.compression.settings import Compression
from kd.deploy.cost.latency import measure
from kd.deploy.cost.macs import count_macs
from kd.deploy.finished_run import FinishedRun
from kd.distillers.deployed import ChangedStudent
from kd.errors import UserError
from kd.io.result_file import Result, read_result
from kd.io.run_folder import RunFolder
from kd.io.weights import load_weights
from kd.models.sizing import count_parameters
from kd.training.run import run as train
from kd.validation.check import check_config

LR_SHARE = 0.1  # of the run's learning rate: the student is trained already


@dataclass(frozen=True)
class Measured:
    """A student before or after compression.

    Attributes:
        label: how it was compressed.
        folder: its run folder.
        val_acc: accuracy on validation, a fraction; with int8, of the net as it is trained.
        drop: accuracy lost on validation, in points; negative for a gain.
        test_acc: test accuracy of `student.safetensors`; None: not tested.
        parameters: of the net.
        file_bytes: of `student.safetensors`.
        gzip_bytes: of the same after gzip, which alone shows what pruning by magnitude saves.
        macs: multiply-accumulate operations of an image.
        latency_ms: median time of a batch of one image, in fp32 on this machine's CPU.
        within: the loss is at most `max_drop`.
    """

    label: str
    folder: str
    val_acc: float
    drop: float
    test_acc: float | None
    parameters: int
    file_bytes: int
    gzip_bytes: int
    macs: int
    latency_ms: float
    within: bool

    def record(self) -> dict[str, Any]:
        return asdict(self)


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
        cfg.trainer.max_epochs = max_epochs or max(1, epochs // 2)
        cfg.optimizer.lr = cfg.optimizer.lr * LR_SHARE if lr is None else lr
        cfg.student.checkpoint = cfg.resume = None
        cfg.paths.run = str(folder)
        how = {} if compression is None else compression.record()
        cfg.compression = {"run": run.result["config_hash"], **how}
        if method is not None:
            cfg.method = method
    return cfg


def check_plan(run: FinishedRun, cfg: DictConfig) -> None:
    """Refuse a method that does not fit, and a teacher that would have to be trained.

    Raises:
        UserError: lists the mistakes.
    """
    checked = check_config(cfg)
    if any(term.needs_teacher for term in checked.method.objectives.values()):
        run.check_teacher(cfg)


def compress(run: FinishedRun, compression: Compression | None, cfg: DictConfig) -> Measured:
    """Prune, train quantization-aware and distil at once, in a run folder of its own.

    A folder that holds this very run finished is measured and not trained again; an interrupted one
    is resumed.

    Args:
        run: whose student is compressed; it stays as it is.
        compression: how; None: not at all.
        cfg: from `plan_config`.

    Raises:
        UserError: the output folder holds something else, or the student cannot be compressed.
    """
    folder = Path(cfg.paths.run)
    net = _pruned(run, compression)
    result = _earlier_result(cfg, folder)
    if result is None:
        trained, callbacks = copy.deepcopy(net).train(), list[Callback]()
        if compression is not None and compression.quantise == "int8":
            fake_quantise(trained)
            callbacks.append(QuantisationSchedule(trained))
        if compression is not None and compression.prune == "magnitude":
            callbacks.append(MagnitudePruning(compression.ratio))
        result = train(cfg, folder, GivenParts(student=trained), callbacks)
    load_weights(net, RunFolder(folder).weights)
    return _measured(run, net, compression, folder, result)


def uncompressed(run: FinishedRun) -> Measured:
    """Measure the student as it is."""
    return _measured(run, plain_student(run), None, run.folder, run.result)


def plain_student(run: FinishedRun) -> nn.Module:
    """Return a copy of the run's student net.

    Raises:
        UserError: the method predicts with parts of its own, which compression would replace.
    """
    net = run.student.net
    if isinstance(net, ChangedStudent):
        raise UserError(
            f"run={run.folder}: method={run.result['method']} predicts with the teacher's "
            "classifier and a projector behind the student, which kd.compress does not train on; "
            "compress a student of another method"
        )
    return copy.deepcopy(net)


def _pruned(run: FinishedRun, compression: Compression | None) -> nn.Module:
    net = plain_student(run)
    if compression is not None and compression.prune == "channels":
        return remove_channels(net, run.data.input_shape, compression.ratio).net
    return net


def _earlier_result(cfg: DictConfig, folder: Path) -> Result | None:
    """Return the result of this run if the folder holds it, finished.

    Raises:
        UserError: the folder holds something else.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not RunFolder(folder).config.is_file():
            raise UserError(f"output={folder} exists and holds no compressed run; choose another")
        changes = differing(experiment_settings(read_record(folder)), experiment_settings(cfg))
        if changes:
            raise UserError(
                f"output={folder} holds another run, with {name_differences(changes)}; choose "
                "another folder"
            )
    result = read_result(folder)
    return result if result is not None and result.get("status") == "completed" else None


@torch.no_grad()
def _measured(
    run: FinishedRun, net: nn.Module, compression: Compression | None, folder: Path, result: Result
) -> Measured:
    net.eval()
    file = RunFolder(folder).weights.read_bytes()
    image = torch.zeros(1, *run.data.input_shape)
    before, after = run.result["val/acc"], result["val/acc"]
    drop = round(100 * (before - after), 6)  # 0.7 − 0.69 is not above one point
    return Measured(
        label="uncompressed" if compression is None else compression.label,
        folder=str(folder),
        val_acc=after,
        drop=drop,
        test_acc=result.get("test/acc"),
        parameters=count_parameters(net),
        file_bytes=len(file),
        gzip_bytes=gzip_bytes(file),
        macs=count_macs(net, image),
        latency_ms=measure(net, image).p50_ms,
        within=compression is None or drop <= compression.max_drop,
    )


def method_config(name: str, overrides: tuple[str, ...] = ()) -> DictConfig:
    """Compose a method of the library, with its own settings.

    Raises:
        UserError: there is no such method; names the nearest.
    """
    import contextlib

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from kd.config.compose import CONF_DIR

    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():
            stack.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        names = GlobalHydra.instance().config_loader().get_group_options("method")
        if name not in names:
            from kd.errors import nearest

            raise UserError(f"method={name}: there is no such method; {nearest(name, names)}")
        cfg = compose("train", overrides=[f"method={name}", *overrides])
    return cast(DictConfig, OmegaConf.create(OmegaConf.to_container(cfg.method)))
