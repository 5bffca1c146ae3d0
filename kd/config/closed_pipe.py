"""End of a command whose output nobody reads any more, as in `kd.train --help | head`."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def closed_pipe_ends_quietly() -> Iterator[None]:
    """End the process with the exit code of SIGPIPE where the reader of its output has gone.

    Log lines are lost without a word then: a run goes on until it prints its summary.
    """
    logging.raiseExceptions = False  # or every lost line is a traceback on stderr
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 + SIGPIPE
