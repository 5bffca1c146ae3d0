"""Exclusive use of a storage, for the steps that no storage does atomically."""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from sqlalchemy.pool import NullPool

from kd.errors import UserError
from kd.io.locks import locked
from kd.tuning.storage_url import StorageUrl

_WAIT = 600  # seconds that MySQL waits for the lock


class Exclusive:
    """Lock of all workers of a storage, which ends with the process that holds it.

    A file has the operating system's lock; PostgreSQL an advisory lock of a transaction, and MySQL
    one of a connection. The other servers have none.

    Args:
        url: the storage.
        connect: arguments of the driver's connection.

    Attributes:
        is_possible: False: the storage has no such lock, and the context manager does nothing.
    """

    def __init__(self, url: StorageUrl, connect: dict[str, object]) -> None:
        self.url = url
        backend = "" if url.url is None else url.url.get_backend_name()
        self.statements = _STATEMENTS.get(backend)
        self.is_possible = url.file is not None or self.statements is not None
        self._engine = None
        if url.file is None and url.url is not None:
            # Apart from Optuna's pool: a connection that is held longer is one connection less.
            self._engine = sqlalchemy.create_engine(
                url.url, poolclass=NullPool, connect_args=connect
            )

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        if (file := self.url.file) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"waiting for another worker to open {file}"
            with locked(Path(f"{file}.lock"), waiting):
                yield
        elif self._engine is not None and self.statements is not None:
            with self._engine.begin() as connection:
                acquire, release = self.statements
                # MySQL answers 0 after its timeout, PostgreSQL nothing.
                if connection.execute(sqlalchemy.text(acquire)).scalar() == 0:
                    raise UserError(f"{self.url.shown}: another worker held its lock for {_WAIT} s")
                try:
                    yield
                finally:
                    if release:
                        connection.execute(sqlalchemy.text(release))
        else:
            yield


_KEY = zlib.crc32(b"kd.search")
_STATEMENTS = {
    # https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    "postgresql": (f"SELECT pg_advisory_xact_lock({_KEY})", ""),
    # https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
    "mysql": (f"SELECT GET_LOCK('kd.search', {_WAIT})", "SELECT RELEASE_LOCK('kd.search')"),
}
_STATEMENTS["mariadb"] = _STATEMENTS["mysql"]
