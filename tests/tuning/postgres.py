"""A PostgreSQL server for a test, on a free loopback port, with its data in a temporary folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "not-a-secret"


def binaries() -> Path | None:
    """Return the folder of initdb, pg_ctl and postgres; None where there is no PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start a server; stop it and delete its data at the end.

    Yields:
        The URL of its database, with a password.
    """
    folder = binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL on this machine: apt-get install postgresql")
    # postgres refuses to run as root.
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    root = Path(tempfile.mkdtemp(prefix="kd-postgres-", dir="/tmp"))
    data, secret = root / "data", root / "password"
    secret.write_text(PASSWORD)
    if user:
        for path in (root, secret):
            shutil.chown(path, **user)

    def call(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, cwd=root, timeout=60, **user)
        assert done.returncode == 0, done.stdout + done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-h 127.0.0.1 -p {port} -c unix_socket_directories='' -c fsync=off"
    control = (str(folder / "pg_ctl"), "-D", str(data), "-w")
    try:
        call(
            *(str(folder / "initdb"), "-D", str(data), "-U", "kd", "-A", "scram-sha-256"),
            *(f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "-N"),
        )
        call(*control, "-l", str(root / "log"), "-o", options, "start")
        yield f"postgresql://kd:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run((*control, "-m", "immediate", "stop"), capture_output=True, cwd="/", **user)
        shutil.rmtree(root, ignore_errors=True)
