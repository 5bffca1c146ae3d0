"""The folder that Hydra makes for a command: its check beforehand, its removal after a refusal."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from kd.errors import UserError
from kd.io.own_files import delete_folder, is_link
from kd.io.printable import printable
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.io.run_places import check_places


class OutputFolder(Callback):
    """Checks the output folder before Hydra opens a log in it, which may be a link to any file.

    It is one of `hydra.callbacks` of conf/train.yaml. Hydra turns exceptions of callbacks into
    warnings, so that a refusal ends the process.

    Attributes:
        sweep: the folder of the sweep, which Hydra resolves and does not return.
        made: the folder of a single run and those above it, as far as Hydra makes them.
    """

    sweep: ClassVar[Path | None] = None
    made: ClassVar[list[Path]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.run.dir)
        _exit_if_refused(folder)
        OutputFolder.made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        OutputFolder.sweep, OutputFolder.made = Path(config.hydra.sweep.dir), []
        logs = (*OutputFolder.sweep.glob("*.log"), *OutputFolder.sweep.glob("*/*.log"))
        for log in filter(is_link, logs):
            _exit_if_refused(log.parent)


def _exit_if_refused(folder: Path) -> None:
    try:
        check_places(folder)
    except (UserError, OSError) as error:
        sys.exit(f"error: {printable(str(error))}")


def remove_unused() -> None:
    """Delete the folder of a run that was refused before its training, if Hydra has made it.

    It holds the log, the lock and a result without figures. A folder with anything else stays.
    """
    if not OutputFolder.made or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    from kd.io.locks import is_held

    folder, *parents = OutputFolder.made
    run = RunFolder(folder)
    if "config_hash" in (read_result(folder) or {}) or (run.lock.exists() and is_held(run.lock)):
        return  # training has begun, or another process uses the folder
    _close_log()
    unused = (run.config.parent, run.config, run.overrides, run.result, run.lock)
    with suppress(UserError, OSError):
        delete_folder(folder, lambda path: path in unused or path.suffix == ".log")
        for parent in parents:
            parent.rmdir()


def _close_log() -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
