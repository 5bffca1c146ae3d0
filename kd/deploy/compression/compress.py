"""Compression of a finished run's student: one more run, under the same teacher and method."""

import copy
import logging
from pathlib import Path

import torch
from lightning import Callback
from omegaconf import DictConfig
from torch import nn

from kd.build.given import GivenParts
from kd.deploy.compression.channels import PrunedNet, remove_channels
from kd.deploy.compression.fake_quantise import fake_quantise
from kd.deploy.compression.magnitude import MagnitudePruning
from kd.deploy.compression.measured import Measured, measured
from kd.deploy.compression.model_file import keep, model_file, net_accuracy, no_onnx
from kd.deploy.compression.plan import Plan
from kd.deploy.compression.quantisation_schedule import QuantisationSchedule
from kd.deploy.compression.settings import Compression
from kd.deploy.compression.start import TrainedParts
from kd.deploy.exporting.description import Precision
from kd.deploy.finished_run import FinishedRun
from kd.distillers.deployed import ChangedStudent
from kd.io.result_file import read_result
from kd.training.run import run as train

log = logging.getLogger(__name__)


def compress_all(plan: Plan) -> list[Measured]:
    """Run the compressions one after the other; the uncompressed student comes first.

    A folder that holds its very run finished is measured and not trained again; an interrupted one
    is resumed.

    Raises:
        UserError: the student cannot be compressed.
        OSError: a file cannot be written.
    """
    nets = [pruned(plan.run, compression) for compression, _ in plan.steps]
    if reason := no_onnx(plan.run):
        log.info("no ONNX file is written, student.safetensors is what remains: %s", reason)
    with model_file(plan.run, "fp32", 0.0, plan.command) as file:
        students = [measured(plan.run, file)]
    for (compression, cfg), net in zip(plan.steps, nets, strict=True):
        log.info(
            "%s: %d epochs at lr=%g, method=%s",
            *(compression.label, cfg.trainer.max_epochs, cfg.optimizer.lr, cfg.method.name),
        )
        made = compress(plan.run, compression, cfg, net)
        students.append(_judged(made, compression, students[0], plan))
    return students


def compress(
    run: FinishedRun,
    compression: Compression | None,
    cfg: DictConfig,
    net: nn.Module | None = None,
) -> FinishedRun:
    """Prune, train quantization-aware and distil at once, in a run folder of its own.

    Args:
        run: whose student is compressed; it stays as it is.
        compression: how; None: not at all, the student trains on.
        cfg: from `plan_config`.
        net: from `pruned`; None: it is made here.

    Returns:
        The run that has compressed. Its student has plain layers; with int8, their weights are
        rounded.
    """
    folder = Path(cfg.paths.run)
    earlier = read_result(folder)
    if earlier is None or earlier.get("status") != "completed":
        net = pruned(run, compression) if net is None else net
        callbacks: list[Callback] = [TrainedParts(run.folder)]
        if compression is not None and compression.quantise == "int8":
            fake_quantise(net)
            callbacks.append(QuantisationSchedule(net))
        if compression is not None and compression.prune == "magnitude":
            callbacks.append(MagnitudePruning(compression.ratio))
        train(cfg, folder, GivenParts(student=net), callbacks)
    return run.another(folder)


def pruned(run: FinishedRun, compression: Compression | None) -> nn.Module:
    """Return the net with which training starts: a copy of the run's student, pruned.

    Raises:
        UserError: no channel of the net can be removed.
    """
    net = _own_net(run)
    if compression is None or compression.prune != "channels":
        return net.train()
    found = remove_channels(net, run.data.input_shape, compression.ratio)
    _log_channels(compression, found)
    return found.net.train()


def _own_net(run: FinishedRun) -> nn.Module:
    """Return a copy of the student's net, without what its method puts behind it."""
    net = run.student.net
    if not isinstance(net, ChangedStudent):
        return copy.deepcopy(net)
    with torch.random.fork_rng(devices=[]):
        plain = run.plain_net()  # not a copy: the other one has hooks, with what they recorded
    plain.load_state_dict(net.changed_student.state_dict())
    return plain


def _log_channels(compression: Compression, found: PrunedNet) -> None:
    before, after = (sum(sizes) for sizes in zip(*found.channels.values(), strict=True))
    log.info("%s: %d of %d channels are left", compression.label, after, before)
    reasons = [reason for reason in found.left.values() if reason != "the net's output"]
    for reason in dict.fromkeys(reasons):
        log.info("%d layers keep their channels, because of %s", reasons.count(reason), reason)


def _judged(made: FinishedRun, compression: Compression, before: Measured, plan: Plan) -> Measured:
    precision: Precision = "int8" if compression.quantise == "int8" else "fp32"
    lost = 100 * (before.val_acc - net_accuracy(made))
    with model_file(made, precision, compression.max_drop - lost, plan.command) as file:
        found = measured(made, file, compression, before)
        if file.path.is_relative_to(made.folder) or not (found.within or plan.force):
            return found
        return found.kept_at(keep(file.path, made.folder / "export"))
