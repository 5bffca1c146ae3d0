"""Composition of configs: the folder `conf/`, models as config groups, and plain content.

Neither torch nor lightning is loaded here.
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

# In a wheel `conf/` lies inside the package, in the repository beside it.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


@functools.cache
def model_taps(model: str) -> dict[str, str]:
    """Return a model's taps: canonical name -> module path.

    Cached: a config with `teacher=ensemble` reads them several times, and composing a model takes
    about 0.1 s.

    Raises:
        UserError: there is no such model; names the nearest.
    """
    taps: dict[str, str] = plain(model_config(model).taps)
    return taps


def register_models(*folders: Path) -> None:
    """Offer every `model/<name>.yaml` below `folders` as `teacher=<name>` and `student=<name>`.

    So a model is one YAML file and not three.

    Args:
        *folders: config folders, such as `conf/` and the one given with `--config-dir`.
    """
    share_config_store()
    store = ConfigStore.instance()
    model_taps.cache_clear()
    names = {path.stem for folder in folders for path in (folder / "model").glob("*.yaml")}
    for name in sorted(names):
        for role in ("teacher", "student"):
            node = {"defaults": [{"/model@_here_": name}]}
            store.store(group=role, name=name, node=node, provider="kd")


def model_config(name: str) -> DictConfig:
    """Compose `model/<name>.yaml`: name, net and taps, as `teacher=<name>` has them.

    Raises:
        UserError: there is no such model; names the nearest.
    """
    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():  # outside a command and a compose block
            stack.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        loader = GlobalHydra.instance().config_loader()
        names = loader.get_group_options("model")
        if name not in names:
            raise UserError(f"there is no model {name!r}; {nearest(name, names)}")
        cfg: DictConfig = compose(f"model/{name}").model
    return cfg


def plain(cfg: Any) -> Any:
    """Resolve a config to plain dicts, lists and scalars; return other values as they are."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
