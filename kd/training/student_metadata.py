"""Collection of what is written into a student's weights file beside the weights."""

from typing import Any

import torch
from omegaconf import DictConfig

import kd
from kd.config.compose import plain
from kd.config.targets import resolve_target
from kd.data.base import DataModule
from kd.data.text import Text
from kd.distillers.base import Distiller
from kd.distillers.deployed import ChangedStudent
from kd.io.provenance import git_commit
from kd.io.student_metadata import FORMAT, Architecture, StudentMetadata, encode
from kd.models.memory_format import is_channels_last

# Arguments that download published weights: a loaded student has its own.
_WITHOUT_DOWNLOAD: dict[str, Any] = {"pretrained": False, "weights": None}


def student_metadata(
    cfg: DictConfig, distiller: Distiller, data: DataModule, foreign: bool = False
) -> dict[str, str]:
    """Describe the deployed student for the metadata of its safetensors file.

    Args:
        cfg: the run's config.
        distiller: the mode's module after training.
        data: the run's data, set up.
        foreign: the student was given to the run as a module, or started from a checkpoint: it may
            have fewer channels than the net of the config.
    """
    size, channels = _input_size(data)
    mean, std = data.normalisation or (None, None)
    reason = _no_architecture(cfg, distiller)
    metadata: StudentMetadata = {
        "format": FORMAT,
        "architecture": None if reason else _architecture(cfg, data, distiller),
        "no_architecture": reason,
        "taps": plain(cfg.student.taps),
        "class_names": [str(name) for name in data.class_names],
        "input_size": size,
        "channels": channels,
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
        "channels_last": is_channels_last(distiller.deployed()),
        "task": data.task,
        "method": cfg.method.name,
        "kd_version": kd.__version__,
        "git_commit": git_commit(),
    }
    if data.pad_index is not None:
        metadata["pad_index"] = data.pad_index
        metadata["tokenizer"] = data.tokenizer.source if isinstance(data, Text) else None
    if foreign and _channels_removed(cfg, distiller, data):
        metadata["channels_removed"] = True
    return encode(metadata)


def _input_size(data: DataModule) -> tuple[list[int], int | None]:
    """Height and width, and channels, of images; length of texts."""
    if data.pad_index is not None:
        return list(data.input_shape), None
    channels, height, width = data.input_shape
    return [height, width], channels


def _channels_removed(cfg: DictConfig, distiller: Distiller, data: DataModule) -> bool:
    """Return whether the student has the layers of its config's net with other shapes."""
    if "_target_" not in cfg.student.net:
        return False
    architecture = _architecture(cfg, data, distiller)
    with torch.random.fork_rng(devices=[]):
        net = resolve_target(architecture["target"])(**architecture["arguments"])
    configured, own = net.state_dict(), distiller.student.state_dict()
    return any(own[name].shape != configured[name].shape for name in own.keys() & configured)


def _no_architecture(cfg: DictConfig, distiller: Distiller) -> str | None:
    """Return why no constructor builds the deployed net; None if one does."""
    if isinstance(distiller.deployed(), ChangedStudent):
        return (
            f"method={cfg.method.name} predicts with parts of its own behind the student; see "
            "kd.distillers.deployed.ChangedStudent"
        )
    if "_target_" not in cfg.student.net:
        kind = cfg.student.net.get("given", "nn.Module")
        return f"the student was given to the run as a module, of class {kind}"
    return None


def _architecture(cfg: DictConfig, data: DataModule, distiller: Distiller) -> Architecture:
    configured = plain(cfg.student.net)
    target = configured.pop("_target_")
    without = {key: value for key, value in _WITHOUT_DOWNLOAD.items() if key in configured}
    # A net that was read from a folder says which arguments build it without.
    own = getattr(distiller.student, "architecture", None)
    without |= own if isinstance(own, dict) else {}
    return {"target": target, "arguments": configured | without | data.net_arguments}
