"""Messages about the jobs of a sweep: each failure at once, and the results at the end."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from kd.io.printable import printable
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder

log = logging.getLogger(__name__)


def announce_failure(message: str | None) -> None:
    """Log the failure of the current job, which Hydra reports after the last job.

    Args:
        message: what the user has to mend; None: the traceback of the exception that is handled.
    """
    hydra = HydraConfig.get()
    text = f"job {hydra.job.num} failed, {hydra.runtime.output_dir}: {printable(message or '')}"
    log.error(text, exc_info=message is None)


def sweep_summary(folder: Path) -> tuple[str, int]:
    """Describe the jobs of a sweep, with the command that compares them.

    Args:
        folder: the sweep's folder, with a folder for each job.

    Returns:
        The description, and the number of jobs that have failed.
    """
    results = [
        read_result(job) for job in sorted(folder.iterdir()) if RunFolder(job).config.is_file()
    ]
    states = [None if result is None else result.get("status") for result in results]
    counts = [(states.count("completed"), "completed"), (states.count("failed"), "failed")]
    unfinished = len(states) - sum(number for number, _ in counts)
    words = [f"{n} {word}" for n, word in (*counts, (unfinished, "unfinished")) if n]
    jobs = f"{len(states)} jobs" if len(states) != 1 else "1 job"
    compare = f"; compare them with: python -m kd.report sweep={folder}" if counts[0][0] else ""
    return f"sweep in {folder}: {jobs}, {', '.join(words)}{compare}", counts[1][0]
