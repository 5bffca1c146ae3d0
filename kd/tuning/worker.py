"""Workers of a search: the locks and heartbeats that tell the living from the dead."""

import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from kd.io.locks import hold, is_held

# User attributes of a trial
OWNER, BEAT = "owner", "heartbeat"
_FOLDER = ".workers"
_MISSED = 6  # heartbeats after which a worker on another machine counts as dead


class Worker:
    """This process as a worker, with a lock that the operating system releases when it dies.

    Args:
        folder: the worker's folder.
        interval: seconds between heartbeats.
    """

    def __init__(self, folder: Path, interval: float) -> None:
        self.token, self.interval = uuid.uuid4().hex, interval
        self._lock = folder.absolute() / _FOLDER / self.token
        self._has_lock = hold(self._lock)

    def owner(self) -> dict[str, str]:
        """Return what a trial records of the worker that runs it."""
        lock = str(self._lock) if self._has_lock else ""
        return {"worker": self.token, "machine": machine(), "lock": lock}

    def owns(self, trial: FrozenTrial) -> bool:
        """Return whether this worker is the one that runs a trial."""
        return (trial.user_attrs.get(OWNER) or {}).get("worker") == self.token

    @contextmanager
    def beating(self, backend: BaseStorage, trial_id: int) -> Iterator[None]:
        """Send heartbeats of a trial, which workers on other machines watch."""
        stop = threading.Event()

        def beat() -> None:
            number = 0
            while not stop.wait(self.interval):
                number += 1
                # A server may be away for a while; the next heartbeat comes soon enough.
                with suppress(OptunaError, SQLAlchemyError, OSError):
                    backend.set_trial_user_attr(trial_id, BEAT, f"{self.token[:8]} {number}")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def end(self) -> None:
        """Remove the lock's file; the lock itself ends with the process."""
        self._lock.unlink(missing_ok=True)


class Liveness:
    """Tells which workers are dead.

    On this machine their locks tell at once. For those on others, heartbeats do: one without a new
    heartbeat for six intervals is dead. One whose trial ran before this worker started is unknown
    until then, or until its next heartbeat.

    Args:
        folder: of this worker; the locks of a search that has been moved lie in it as well.
        interval: seconds between heartbeats.
    """

    def __init__(self, folder: Path, interval: float) -> None:
        self.folder, self.timeout = folder, _MISSED * interval
        self.started = False  # True: workers seen from now on are alive
        self._seen: dict[tuple[int, str], tuple[Any, float]] = {}
        self._alive: set[tuple[int, str]] = set()

    def is_dead(self, trial: FrozenTrial) -> bool | None:
        """Return whether the worker of a running trial is dead; None: not known yet."""
        owner = trial.user_attrs.get(OWNER) or {}
        held = self._lock_is_held(owner)
        return self._is_silent(trial, owner) if held is None else not held

    def _lock_is_held(self, owner: Mapping[str, str]) -> bool | None:
        """Return whether a worker's lock is held; None: this machine cannot tell."""
        if owner.get("machine") != machine() or not owner.get("lock"):
            return None
        recorded = Path(owner["lock"])
        for file in (recorded, self.folder.absolute() / _FOLDER / recorded.name):
            if file.is_file():
                held = is_held(file)
                if not held:
                    file.unlink(missing_ok=True)
                return held
        return None

    def _is_silent(self, trial: FrozenTrial, owner: Mapping[str, str]) -> bool | None:
        key, now = (trial.number, owner.get("worker", "")), time.monotonic()
        beat = trial.user_attrs.get(BEAT)
        if key not in self._seen or self._seen[key][0] != beat:
            if key in self._seen or self.started:
                self._alive.add(key)
            self._seen[key] = (beat, now)
        if now - self._seen[key][1] > self.timeout:
            return True
        return False if key in self._alive else None


def machine() -> str:
    """Return an identity of the running kernel, whose processes see each other's file locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()}-{uuid.getnode()}"
