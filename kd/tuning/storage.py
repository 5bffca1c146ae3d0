"""Storage of a search's trials: an SQLite file, or a database that workers share."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from sqlalchemy.exc import SQLAlchemyError

from kd.errors import UserError
from kd.io.locks import locked
from kd.tuning.sampler import SeededByTrial

# A trial counts as dead after this many heartbeats without one of its worker.
_MISSED_HEARTBEATS = 6
_SQLITE_TIMEOUT = 60  # seconds to wait for another worker's write


class Storage:
    """A database of trials.

    Args:
        name: a file, for SQLite, or a database URL.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = None if "://" in name else Path(name).absolute()

    def study(self, settings: dict[str, Any]) -> optuna.Study:
        """Open the study, or create it.

        Args:
            settings: seed, pruning and heartbeat, as in conf/search.yaml.
        """
        heartbeat, pruning = settings["heartbeat"], settings["pruning"]
        arguments = {} if self.file is None else {"connect_args": {"timeout": _SQLITE_TIMEOUT}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
            backend = optuna.storages.RDBStorage(
                self.name if self.file is None else f"sqlite:///{self.file}",
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat,
                grace_period=_MISSED_HEARTBEATS * heartbeat,
            )
        # The median stopping rule of Golovin et al. 2017, https://doi.org/10.1145/3097983.3098043.
        # Optuna compares steps ≥ n_warmup_steps; epochs count from 1.
        pruner = optuna.pruners.MedianPruner(pruning["startup"], pruning["warmup"] + 1)
        return optuna.create_study(
            study_name="kd",
            storage=backend,
            direction="maximize",
            load_if_exists=True,
            sampler=SeededByTrial(settings["seed"]),
            pruner=pruner,
        )

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Make other workers on the same file wait; a database server needs no lock."""
        if self.file is None:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{self.file}.lock"), f"waiting for another worker to open {self.file}"):
            yield

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the database into one message that names it."""
        try:
            yield
        except (OptunaError, SQLAlchemyError, ImportError) as error:
            message = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"search.storage={self.name}: {message}") from error
