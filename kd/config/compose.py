"""The configuration: where it lies, its resolvers, and the options `teacher=` and `student=`.

Importing this module registers the resolvers; it loads neither torch nor lightning.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kd.compat import share_config_store
from kd.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]

CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


@functools.cache
def _taps_of(model: str) -> dict[str, str]:
    """Kept, since a config asks for it often and composing takes a tenth of a second."""
    taps: dict[str, str] = plain(model_config(model).taps)
    return taps


def register_models(*folders: Path) -> None:
    """Offer every `model/<name>.yaml` below `folders` as `teacher=<name>` and `student=<name>`.

    This is why a model is one YAML file and not three.
    """
    share_config_store()
    store = ConfigStore.instance()
    _taps_of.cache_clear()
    names = {path.stem for folder in folders for path in (folder / "model").glob("*.yaml")}
    for name in sorted(names):
        for role in ("teacher", "student"):
            node = {"defaults": [{"/model@_here_": name}]}
            store.store(group=role, name=name, node=node, provider="kd")


def model_config(name: str) -> DictConfig:
    """`model/<name>.yaml` composed, as `teacher=<name>` would have it: name, net and taps.

    Raises:
        UserError: there is no such model; names the nearest.
    """
    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():  # a config composed elsewhere
            stack.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        loader = GlobalHydra.instance().config_loader()
        names = loader.get_group_options("model")
        if name not in names:
            raise UserError(f"there is no model {name!r}; {nearest(name, names)}")
        cfg: DictConfig = compose(f"model/{name}").model
    return cfg


def plain(cfg: Any) -> Any:
    """Resolve a config to plain dicts, lists and scalars."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
