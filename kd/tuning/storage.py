"""Where a search keeps its trials: a file, or a database that its workers share."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, OptunaError
from sqlalchemy.exc import SQLAlchemyError

from kd.errors import UserError
from kd.tuning.sampler import SeededByTrial

# Signs of life that a worker may miss before its trial counts as dead.
_MISSES = 6


class Storage:
    """A database of trials.

    Args:
        name: a file, for SQLite, or a database's URL.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = None if "://" in name else Path(name).absolute()

    def study(self, settings: dict[str, Any]) -> optuna.Study:
        """Open the study, or begin it.

        Args:
            settings: seed, pruning and heartbeat, as in conf/search.yaml.
        """
        heartbeat, pruning = settings["heartbeat"], settings["pruning"]
        # Other workers write to the file as well.
        arguments = {} if self.file is None else {"connect_args": {"timeout": 60}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            backend = optuna.storages.RDBStorage(
                self.name if self.file is None else f"sqlite:///{self.file}",
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat,
                grace_period=_MISSES * heartbeat,
            )
        return optuna.create_study(
            study_name="kd",
            storage=backend,
            direction="maximize",
            load_if_exists=True,
            sampler=SeededByTrial(settings["seed"]),
            pruner=optuna.pruners.MedianPruner(pruning["startup"], pruning["warmup"] + 1),
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other workers on this file waiting; those of a database's URL do not."""
        if self.file is None:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.file}.lock"):
            yield

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Say in one message what is wrong with the storage."""
        try:
            yield
        except (OptunaError, SQLAlchemyError, ImportError) as error:
            said = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"search.storage={self.name}: {said}") from error
