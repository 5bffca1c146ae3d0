"""Names of storages: files, and the URLs that SQLAlchemy and Optuna take."""

import importlib.util
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from kd.config.passwords import masked, with_password
from kd.errors import UserError, nearest

_JOURNAL, _REDIS = "journal://", ("redis://", "rediss://")
# What pip installs for the module that a URL's driver imports
_PACKAGES = {
    "psycopg": "-e '.[postgres]'",
    "psycopg2": "psycopg2-binary",
    "pymysql": "-e '.[mysql]'",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "oracledb": "oracledb",
    "pyodbc": "pyodbc",
    "redis": "redis",
}
# Drivers of ours for URLs that name none; SQLAlchemy's choice differs between its versions.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_DRIVERS |= {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
_KNOWN = ("postgresql", "mysql", "mariadb", "sqlite", "journal", "redis", "mssql", "oracle")


class StorageUrl:
    """Name of the storage that holds the trials of a search.

    Args:
        name: a file, for SQLite, or a URL: of a database (`postgresql://user@host/db`), of a
            journal file (`journal://FILE`), of a Redis server (`redis://host`).

    Attributes:
        shown: the name without its password.
        file: the file of SQLite or of a journal; None for a server.
        url: of a database; None for a journal.

    Raises:
        UserError: no such kind of URL, or its driver is not installed.

    Example:
        >>> StorageUrl("sqlite:////data/study.db").file
        PosixPath('/data/study.db')
    """

    def __init__(self, name: str) -> None:
        self.shown, self.url, self.file = masked(name), None, None
        self.redis = with_password(name) if name.startswith(_REDIS) else None
        self.is_journal = name.startswith(_JOURNAL)
        if self.is_journal:
            self.file = Path(name.removeprefix(_JOURNAL)).absolute()
        elif "://" not in name:
            self.file = Path(name).absolute()
            self.url = URL.create("sqlite", database=str(self.file))
        elif self.redis is None:
            self.url = self._database(with_password(name))
            if self.url.get_backend_name() == "sqlite":
                self.file = self._sqlite_file(self.url)
        if self.redis is not None and importlib.util.find_spec("redis") is None:
            raise UserError(self.missing("redis"))

    def _database(self, name: str) -> URL:
        scheme, _, rest = name.partition("://")
        try:
            url = make_url(f"{_DRIVERS.get(scheme, scheme)}://{rest}")
            url.get_dialect().import_dbapi()
        except (ArgumentError, NoSuchModuleError, ValueError):
            # Their messages quote the URL.
            hint = nearest(scheme.partition("+")[0], _KNOWN)
            raise UserError(f"search.storage={self.shown}: no such kind of URL; {hint}") from None
        except ImportError as error:
            raise UserError(self.missing(error.name or str(error))) from None
        return url

    def _sqlite_file(self, url: URL) -> Path:
        if not url.database or ":memory:" in url.database or "mode=memory" in str(url):
            raise UserError(f"search.storage={self.shown}: it would be lost; name a file")
        return Path(url.database).absolute()

    def missing(self, module: str) -> str:
        """Return the message for a driver that is not installed."""
        top = module.partition(".")[0]
        return f"search.storage={self.shown} needs {top}: pip install {_PACKAGES.get(top, top)}"
