"""Storage of a search's trials: a file, or a database server that workers share."""

import contextlib
import os
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import (
    BaseJournalBackend,
    JournalFileBackend,
    JournalRedisBackend,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from kd.config.passwords import masked, password, with_password
from kd.errors import UserError
from kd.io.regular_files import check_regular
from kd.tuning.exclusive import Exclusive
from kd.tuning.sampler import SeededByTrial
from kd.tuning.space import Space
from kd.tuning.storage_url import StorageUrl

_LIBRARIES = ("optuna", "sqlalchemy", "redis")
_SQLITE_TIMEOUT = 60  # seconds to wait for another worker's write
_CONNECT_TIMEOUT = 20  # seconds to wait for a server
_CONNECT_ARGUMENTS: dict[str, dict[str, object]] = {
    "sqlite": {"timeout": _SQLITE_TIMEOUT},
    "postgresql+psycopg": {"connect_timeout": _CONNECT_TIMEOUT},
    "postgresql+psycopg2": {"connect_timeout": _CONNECT_TIMEOUT},
    "mysql+pymysql": {"connect_timeout": _CONNECT_TIMEOUT},
    "mariadb+pymysql": {"connect_timeout": _CONNECT_TIMEOUT},
}


class Storage:
    """Opens the study of a search.

    Args:
        name: a file or a URL, see `StorageUrl`.

    Attributes:
        exclusive: context manager that makes the other workers wait.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = StorageUrl(name)
        self._connect: dict[str, object] = {}
        if (url := self.url.url) is not None and "connect_timeout" not in url.query:
            driver = "sqlite" if url.get_backend_name() == "sqlite" else url.drivername
            self._connect = _CONNECT_ARGUMENTS.get(driver, {})
        self.exclusive = Exclusive(self.url, self._connect)

    def open(self) -> BaseStorage:
        """Open the storage, whose tables are created.

        Raises:
            UserError: the storage cannot be reached, or holds something else.
        """
        if self.url.file is not None and os.path.lexists(self.url.file):
            try:  # opening a named pipe would wait for ever
                check_regular(Path(self.url.file))
            except UserError as error:
                raise UserError(f"search.storage={masked(self.name)}: {error}") from None
        with warnings.catch_warnings(), self.errors(), self.exclusive():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if self.url.url is None:
                return JournalStorage(self._journal())
            arguments: dict[str, Any] = {"connect_args": self._connect}
            if self.url.file is None:
                # Servers and firewalls close connections that are idle during a long trial.
                arguments["poolclass"] = NullPool
            return RDBStorage(
                self.url.url.render_as_string(hide_password=False), engine_kwargs=arguments
            )

    def _journal(self) -> BaseJournalBackend:
        if self.url.redis is not None:
            return JournalRedisBackend(self.url.redis)
        return JournalFileBackend(str(self.url.file))

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the storage into one message that names it."""
        try:
            yield
        except (OptunaError, SQLAlchemyError) as error:
            raise UserError(self._message(error)) from None
        except Exception as error:  # of a damaged file, as UnicodeDecodeError
            if not _is_raised_in(error, _LIBRARIES):
                raise
            raise UserError(self._message(error)) from None

    def _message(self, error: Exception) -> str:
        text = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        secret = password(with_password(self.name))
        shown = text if secret is None else text.replace(secret, "***")
        return f"search.storage={masked(self.name)}: {shown}"


def _is_raised_in(error: Exception, libraries: tuple[str, ...]) -> bool:
    """Whether these libraries, and not this package or what a trial calls, raised an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    known = [package for package in packages if package in ("kd", "torch", *libraries)]
    return bool(known) and known[-1] in libraries


def open_study(
    backend: BaseStorage, name: str, space: Space, settings: dict[str, Any]
) -> optuna.Study:
    """Open a study, or create it.

    Args:
        backend: the storage.
        name: of the study.
        space: distributions by key.
        settings: seed and pruning, as in conf/search.yaml.
    """
    pruning = settings["pruning"]
    # The median stopping rule of Golovin et al. 2017, https://doi.org/10.1145/3097983.3098043.
    # Optuna compares steps ≥ n_warmup_steps; epochs count from 1.
    pruner = optuna.pruners.MedianPruner(pruning["startup"], pruning["warmup"] + 1)
    return optuna.create_study(
        study_name=name,
        storage=backend,
        direction="maximize",
        load_if_exists=True,
        sampler=SeededByTrial(settings["seed"], space),
        pruner=pruner,
    )
