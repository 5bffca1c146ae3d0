"""Checks of a teacher: its files before data are loaded, its outputs before it teaches."""

from functools import partial
from pathlib import Path
from typing import Any

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
from kd.training.label_fit import warn_of_labels

_LIBRARIES = ("kd.models.",)  # constructors whose keys do not depend on the data
_PROBES = ({"image_size": 32}, {"image_size": 224})
_WITHOUT_DOWNLOAD: dict[str, Any] = {"pretrained": False, "weights": None}


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


def check_outputs(
    name: str, logits: Tensor, data: DataModule, foreign: bool, untrained: bool = False
) -> None:
    """Refuse outputs that are no numbers; warn of outputs that do not fit the test labels.

    Args:
        name: of the teacher.
        logits: on the test set in its order [N, K].
        data: has the labels of the test set.
        foreign: the teacher was not trained here, so that its classes may have another order.
        untrained: its weights are random on purpose, so that its outputs fit no labels.

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
    if untrained:
        return
    counts = confusion_matrix(logits, data.test_targets)
    warn_of_labels(counts, data.class_names, f"teacher {name}", teaches=True, foreign=foreign)
