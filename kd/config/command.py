"""How every command starts: Hydra's main, and one message instead of a traceback for a mistake."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kd.config.compose import CONF_DIR, register_models
from kd.config.messages import user_message
from kd.config.overrides import _config_dirs, continued, expand_shorthand

Task = Callable[[DictConfig], Any]

# Whether tracebacks are wanted; processes that this one starts find HYDRA_FULL_ERROR set by it.
_FULL_ERROR = "KD_FULL_ERROR"


def command(config_name: str, **aliases: str) -> Callable[[Task], Callable[[], None]]:
    """Turn `task(cfg)` into a command that is configured by `conf/<config_name>.yaml`.

    `aliases` are other names of its keys: for keys that are called as one of Hydra's groups is.
    A user's mistake ends it with one message and exit code 1, or with the traceback where
    HYDRA_FULL_ERROR=1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            try:
                return task(cfg)
            except Exception as error:
                # Before Hydra says that this was a job, which is news in a sweep only.
                if HydraConfig.get().mode == RunMode.RUN:
                    _end(error)
                raise

        main = hydra.main(str(CONF_DIR), config_name, version_base="1.3")(job)

        def start() -> None:
            os.environ.setdefault(_FULL_ERROR, os.environ.get("HYDRA_FULL_ERROR", "0"))
            # With this set, Hydra hands exceptions on instead of printing them.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            try:
                sys.argv[1:] = [expand_shorthand(argument, aliases) for argument in sys.argv[1:]]
                if config_name == "train":
                    sys.argv[1:] = continued(sys.argv[1:])
                register_models(CONF_DIR, *_config_dirs(sys.argv[1:]))
                main()
            except KeyboardInterrupt:
                sys.exit(130)
            except Exception as error:
                _end(error)
                raise

        return start

    return decorate


def _end(error: Exception) -> None:
    """End with one message, if a user can do something about the error and wants no traceback."""
    if os.environ.get(_FULL_ERROR) != "1" and (message := user_message(error)) is not None:
        sys.exit(f"error: {message}")
