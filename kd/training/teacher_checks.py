"""Checks of a teacher: its files before data are loaded, its outputs before it teaches."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from kd.build.instantiate import make
from kd.config.compose import plain
from kd.config.members import is_ensemble, member_configs
from kd.data.base import DataModule
from kd.errors import UserError
from kd.io.checkpoint.opened import Checkpoint
from kd.io.checkpoint.read import open_checkpoint
from kd.io.weights import kept_epoch
from kd.metrics import confusion_matrix

log = logging.getLogger(__name__)

_LIBRARIES = ("kd.models.",)  # constructors whose keys do not depend on the data
_PROBES = ({"image_size": 32}, {"image_size": 224})
_WITHOUT_DOWNLOAD: dict[str, Any] = {"pretrained": False, "weights": None}
# Smallest gain in accuracy that is reported as another order of the classes: two of ten classes
# that are exchanged cost 0.2.
_GAIN = 0.1
_IMAGES_A_CLASS = 10  # with fewer test images, a relabelling fits by chance
_SHOWN = 20  # classes in a message


def check_teacher_files(cfg: DictConfig) -> None:
    """Open the teacher's checkpoints, and match their names with the net's.

    Raises:
        UserError: a checkpoint is missing, unreadable, or of another net.
    """
    for single in member_configs(cfg).values() if is_ensemble(cfg) else [cfg]:
        if single.teacher.checkpoint is not None:
            _match_names(single, open_teacher(single))


def open_teacher(cfg: DictConfig) -> Checkpoint:
    """Open `teacher.checkpoint`.

    Raises:
        UserError: it is missing or unreadable.
    """
    path, epoch = Path(cfg.teacher.checkpoint), cfg.teacher.epoch
    return open_checkpoint(path if epoch is None else kept_epoch(path, epoch))


def _match_names(cfg: DictConfig, checkpoint: Checkpoint) -> None:
    """Compare the names of weights with those of the net for some other data.

    Shapes depend on the data: they are compared when the data are there.
    """
    configured = plain(cfg.teacher.net)
    if not str(configured.get("_target_", "")).startswith(_LIBRARIES):
        return
    configured |= {k: v for k, v in _WITHOUT_DOWNLOAD.items() if k in configured}
    for facts in _PROBES:
        build = partial(
            make, configured, "student.net", "teacher", in_channels=3, num_classes=10, **facts
        )
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                net: nn.Module = build()
        except Exception:  # the net is built again for the real data, and refuses then
            continue
        checkpoint.check_names(net.state_dict(), cfg.teacher.get("checkpoint_key"))
        return


def check_outputs(name: str, logits: Tensor, data: DataModule, foreign: bool) -> None:
    """Refuse outputs that are no numbers; warn of an accuracy at chance, or of permuted classes.

    Args:
        name: of the teacher.
        logits: on the test set in its order [N, K].
        data: has the labels of the test set.
        foreign: the teacher was not trained here, so that its classes may have another order.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    finite = logits.isfinite().all(1)
    if not finite.all():
        raise UserError(
            f"teacher {name}: its outputs are NaN or infinite on {int((~finite).sum())} of "
            f"{len(logits)} test images, although its weights are finite: they overflow, or are of "
            "a net of another structure"
        )
    targets, classes = data.test_targets, data.num_classes
    counts = confusion_matrix(logits, targets).float()
    accuracy = float(counts.diagonal().sum() / counts.sum())
    order, relabelled = best_order(counts)
    fits = foreign and len(targets) >= _IMAGES_A_CLASS * classes and relabelled - accuracy > _GAIN
    if fits:
        log.warning(
            "teacher %s: test accuracy %.4f, and %.4f if its classes were in another order (%s); "
            "permute the rows of its classifier, weight and bias: %s",
            *(name, accuracy, relabelled, _moved(order, data.class_names), _listed(order)),
        )
    elif accuracy <= float(counts.sum(1).max() / counts.sum()):
        log.warning(
            "teacher %s: test accuracy %.4f, no more than the most frequent class alone: its "
            "weights, its mean and std, or the order of its classes do not fit these data",
            *(name, accuracy),
        )


def best_order(counts: Tensor) -> tuple[list[int], float]:
    """Return the order of a teacher's outputs that fits the labels best, and its accuracy.

    Args:
        counts: confusion matrix [K, K]: images of class i, of which output j is the largest.

    Example:
        >>> best_order(torch.tensor([[0.0, 9.0], [8.0, 3.0]]))
        ([1, 0], 0.8500000238418579)
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(counts), maximize=True)
    right = counts[torch.as_tensor(rows), torch.as_tensor(columns)].sum()
    return [int(column) for column in columns], float(right / counts.sum())


def _moved(order: list[int], names: list[str]) -> str:
    moved = [(names[i], j) for i, j in enumerate(order) if i != j]
    listed = ", ".join(f"{name!r} is output {output}" for name, output in moved[:3])
    return listed + (f", … ({len(moved) - 3} more)" if len(moved) > 3 else "")


def _listed(order: list[int]) -> str:
    return (
        str(order) if len(order) <= _SHOWN else f"order], bias[order], with order of {len(order)}"
    )
