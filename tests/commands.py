"""Runs kd's commands as a user does, each in its own process.

Importing torch, Lightning and torchmetrics takes five of the seven seconds of a short command. Each
process is therefore forked from a server that has imported these and done nothing else: all but the
loaded modules is as in a fresh process.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LOADED = [
    "kd.chains.run",
    "kd.tuning.study",
    "torch.utils.tensorboard",
    "torchvision",
    "sklearn.datasets",
]

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(_LOADED)


class Command:
    """A started `python -m module arguments`, with one thread, in the repository's root.

    Args:
        module: such as kd.train.
        arguments: its command line.
        fresh: start without loaded libraries, as commands that start other processes need.
        **environment: variables in addition to those of this process.
    """

    def __init__(
        self, module: str, *arguments: str, fresh: bool = False, **environment: str
    ) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **environment}
        self.line = [sys.executable, "-m", module, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        self._process: ForkServerProcess | subprocess.Popen[bytes]
        if fresh or sys.platform != "linux":  # Apple's libraries fail after a fork
            out, errors = (file.open("wb") for file in self._files)
            with out, errors:
                self._process = subprocess.Popen(
                    self.line, cwd=ROOT, env=environment, stdout=out, stderr=errors,
                    preexec_fn=_heed_ctrl_c,
                )  # fmt: skip
        else:
            call = (module, arguments, self._files, environment)
            self._process = server.Process(target=_run, args=call)
            self._process.start()

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs, -N if signal N ended it."""
        if isinstance(self._process, ForkServerProcess):
            return self._process.exitcode
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self._process.pid or 0, number)

    def ended(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for the end, and return exit code and output."""
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.line, timeout)
            time.sleep(0.01)
        said = [file.read_text() for file in self._files]
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.line, self.returncode, *said)


def _heed_ctrl_c() -> None:
    """Restore Ctrl-C, which a shell disables for background jobs, perhaps for these tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(
    module: str, arguments: Sequence[str], files: Sequence[Path], environment: Mapping[str, str]
) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    _heed_ctrl_c()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
