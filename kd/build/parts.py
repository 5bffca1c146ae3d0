"""Data, nets and the distiller of a run, built from its config one node at a time."""

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd.build.instantiate import make
from kd.build.method import Method
from kd.build.trainer import build_optimizer
from kd.config.compose import model_config, plain
from kd.config.targets import resolve_target
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.distillers.pairing import Peer
from kd.errors import UserError
from kd.models.memory_format import set_memory_format
from kd.schedules import Schedule


def build_net(
    cfg: DictConfig,
    role: str,
    data: DataModule,
    model: DictConfig | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Build a net for the inputs and the classes of the data.

    Args:
        cfg: the run's config.
        role: `student` or `teacher`, a key of the config; with `model`, a name for errors.
        data: gives the arguments that depend on it, such as `num_classes`.
        model: the net's config; None: `cfg[role]`.
        num_classes: of a classifier; None: the data's.

    Raises:
        UserError: the net refuses its arguments.
    """
    model = cfg[role] if model is None else model
    other = {} if num_classes is None else {"num_classes": num_classes}
    net: nn.Module = make(
        model.net,
        "student.net",  # a teacher's or a peer's net is no other kind of thing
        f"{role}={model.name}",
        **(data.net_arguments | other),
    )
    set_memory_format(net, cfg.channels_last)
    return net


def peer_configs(cfg: DictConfig) -> list[DictConfig]:
    """Return the models of `mode.peers` in order; `student` is one more net like the student.

    Raises:
        UserError: a name is unknown, or there is none.
    """
    if not OmegaConf.is_list(cfg.mode.peers) or not cfg.mode.peers:
        raise UserError(f"mode.peers={cfg.mode.peers}: must name at least one model, as [student]")
    try:
        return [cfg.student if name == "student" else model_config(name) for name in cfg.mode.peers]
    except UserError as error:
        raise UserError(f"mode.peers={list(cfg.mode.peers)}: {error}") from error


def build_peers(cfg: DictConfig, data: DataModule) -> list[Peer]:
    """Build the nets that are trained jointly with the student."""
    return [
        Peer(model.name, build_net(cfg, "mode.peers", data, model), plain(model.taps))
        for model in peer_configs(cfg)
    ]


def distiller_class(cfg: DictConfig) -> type[Distiller]:
    """Return the class of the run's LightningModule."""
    found: type[Distiller] = resolve_target(_distiller(cfg)._target_)
    return found


def has_own_step(cfg: DictConfig) -> bool:
    """Return whether the method names a LightningModule in place of the mode's."""
    return cfg.method.get("distiller") is not None


def step_owner(cfg: DictConfig) -> str:
    """Return what names the run's LightningModule, as on the command line."""
    return f"method={cfg.method.name}" if has_own_step(cfg) else f"mode={cfg.mode.name}"


def _distiller(cfg: DictConfig) -> DictConfig:
    found: DictConfig = cfg.method.distiller if has_own_step(cfg) else cfg.mode.distiller
    return found


def distiller_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the arguments of the run's LightningModule that the config has."""
    return {k: v for k, v in plain(_distiller(cfg)).items() if not k.startswith("_")}


def build_distiller(
    cfg: DictConfig, method: Method, scheduler: Schedule, **parts: Any
) -> Distiller:
    """Build the LightningModule of the mode, or of a method that has one of its own.

    Args:
        cfg: the run's config.
        method: its objectives and their weights.
        scheduler: factor of the learning rate.
        **parts: the other arguments of its class: student, num_classes, and the teachers.

    Raises:
        UserError: the class refuses its arguments.
    """
    distiller: Distiller = make(
        _distiller(cfg),
        "method.distiller" if has_own_step(cfg) else "mode.distiller",
        step_owner(cfg),
        tap_paths=plain(cfg.student.taps),
        optimizer=partial(build_optimizer, cfg.optimizer),
        scheduler=scheduler,
        objectives=method.objectives,
        plan=method.plan,
        **parts,
    )
    return distiller
