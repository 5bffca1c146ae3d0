"""Config of a library call, composed from keywords as from a command line."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kd.config.compose import CONF_DIR, register_models
from kd.config.messages import user_message
from kd.errors import UserError, nearest

# Keywords that stand for a key of the config; all others are settings of the method.
_KEYS = {
    "max_epochs": "trainer.max_epochs",
    "lr": "optimizer.lr",
    "batch_size": "data.batch_size",
    "seed": "seed",
    "accelerator": "trainer.accelerator",
    "precision": "trainer.precision",
    "progress_bar": "trainer.enable_progress_bar",
}
# Keys of a method's YAML that describe the method itself.
_STRUCTURE = ("name", "objectives", "weights", "stages", "schedules", "distiller")


def compose_config(options: Sequence[str], settings: Mapping[str, Any]) -> DictConfig:
    """Compose the config of `kd.train`, leaving the caller's own Hydra unchanged.

    Args:
        options: overrides as on the command line, such as `teacher=resnet20`.
        settings: values by keyword: those of `_KEYS`, or settings of the method.

    Raises:
        UserError: an unknown option or keyword; names the nearest valid one.
    """
    try:
        with _own_hydra():
            cfg = compose("train", overrides=[*options, "paths.run=unset"])
    except Exception as error:
        if (message := user_message(error)) is None:
            raise
        raise UserError(message) from error
    for name, value in settings.items():
        OmegaConf.update(cfg, _key(cfg, name), value)
    return cfg


def _key(cfg: DictConfig, name: str) -> str:
    if name in _KEYS:
        return _KEYS[name]
    knobs = [str(knob) for knob in cfg.method if knob not in _STRUCTURE]
    if name not in knobs:
        hint = nearest(name, [*knobs, *_KEYS])
        raise UserError(
            f"{name}: neither a setting of method={cfg.method.name} nor a keyword; {hint}"
        )
    return f"method.{name}"


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra for a block and restore what the caller had initialised.

    A notebook may have initialised Hydra for its own configs; Hydra is a singleton.
    """
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        register_models(CONF_DIR)
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            yield
    finally:
        # The block has put another instance in the singleton's place.
        GlobalHydra.instance().hydra = before
