"""Graceful stop of a run on Ctrl-C or SIGTERM."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

log = logging.getLogger(__name__)


class StopRequest:
    """Records SIGINT and SIGTERM, so that a run stops only where its state has been saved.

    A second signal exits at once with code 128 + its number, the convention of shells.

    Attributes:
        signal: the signal received; None: there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}  # those that were installed before

    def install(self) -> None:
        """Install the handlers; does nothing outside the main thread, where Python forbids it."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self.receive)

    def leave_to_lightning(self) -> None:
        """Remove a handler of SIGTERM, which Lightning would call beside its own."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def restore(self) -> None:
        """Install the previous handlers again."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        log.warning("stopping after this step; repeat the signal to exit at once")

    def raise_if_received(self) -> None:
        """Raise what Lightning raises for the signal: KeyboardInterrupt or SIGTERMException."""
        if self.signal == signal.SIGTERM:
            raise SIGTERMException
        if self.signal is not None:
            raise KeyboardInterrupt
