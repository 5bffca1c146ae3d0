"""The decorator that makes a Hydra command, with one-line messages for a user's mistakes."""

import functools
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kd.config.arguments import INFORMATION, read_arguments
from kd.config.closed_pipe import closed_pipe_ends_quietly
from kd.config.compose import CONF_DIR, register_models
from kd.config.grammar import readable
from kd.config.help import help_text
from kd.config.messages import user_message
from kd.config.output_folder import OutputFolder, remove_unused
from kd.config.overrides import expand_shorthand
from kd.config.passwords import hide_password
from kd.config.preflight import Check, check_arguments
from kd.config.record import register_resumed
from kd.config.several_values import joined, texts_joined
from kd.config.sweep import announce_failure, sweep_summary
from kd.errors import UserError
from kd.io.printable import printable

_MAX_MESSAGE = 100_000  # characters
Task = Callable[[DictConfig], Any]

# "1": show tracebacks. Kept apart from HYDRA_FULL_ERROR, which every command sets for itself and
# which the processes that it starts inherit.
_FULL_ERROR = "KD_FULL_ERROR"


def command(
    config_name: str,
    *,
    check: Check | None = None,
    several: str | None = None,
    texts: str | None = None,
    **aliases: str,
) -> Callable[[Task], Callable[[], None]]:
    """Turn `task(cfg)` into a command that is configured by `conf/<config_name>.yaml`.

    A user's mistake ends the command with one message and exit code 1; HYDRA_FULL_ERROR=1 in the
    environment shows the traceback instead.

    Args:
        config_name: the primary config. `train` takes `resume=FOLDER` as well, which replaces it
            by the config recorded in FOLDER.
        check: further mistakes of a run's config; see `kd.config.preflight.check_arguments`.
        several: key of a setting that takes several values; see `kd.config.several_values`.
        texts: key of a setting that takes several texts, as they are.
        **aliases: other names for keys of the config. The key `folder` of `kd.report` is given as
            `sweep=…`, which Hydra would take for its config group of that name.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            return _run(task, cfg)

        def start() -> None:
            os.environ.setdefault(_FULL_ERROR, os.environ.get("HYDRA_FULL_ERROR", "0"))
            # Hydra then raises exceptions instead of printing them.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            # Hydra compares a config with the plugin's of the same name, and says that it no longer
            # will; ours states every setting.
            warnings.filterwarnings("ignore", "\n'hydra/launcher/ray' is validated", UserWarning)
            signal.signal(signal.SIGTERM, _terminate)
            with closed_pipe_ends_quietly():
                try:
                    primary = _prepare(config_name, aliases, check, several, texts)
                    hydra.main(str(CONF_DIR), primary, version_base="1.3")(job)()
                    _end_sweep()
                except KeyboardInterrupt:
                    sys.exit(130)
                except Exception as error:
                    _end_sweep()
                    _exit_with_message(error)
                    raise

        return start

    return decorate


def _run(task: Task, cfg: DictConfig) -> Any:
    """Run the task as a job of Hydra: errors end it with their message."""
    threading.excepthook = _report_thread
    for handler in logging.getLogger().handlers:
        handler.addFilter(_printable_record)
    try:
        return task(cfg)
    except Exception as error:
        # Ends here, before Hydra adds "Error executing job with overrides".
        if HydraConfig.get().mode == RunMode.RUN:
            _exit_with_message(error)
        else:  # Hydra reports it after the last job
            announce_failure(user_message(error))
        raise


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Exit on SIGTERM as on Ctrl-C: what is open is closed, and a run records how it ended."""
    sys.exit(128 + number)


def _prepare(
    config_name: str,
    aliases: Mapping[str, str],
    check: Check | None,
    several: str | None,
    texts: str | None,
) -> str:
    """Check the command line, write it as Hydra takes it, and return the primary config's name."""
    arguments, problems = read_arguments(sys.argv[1:])
    if several is not None and "--multirun" not in arguments.flags:
        arguments = replace(arguments, overrides=joined(arguments.overrides, several))
    if texts is not None:
        arguments = replace(arguments, overrides=texts_joined(arguments.overrides, texts))
    overrides = [hide_password(expand_shorthand(w, aliases)) for w in arguments.overrides]
    overrides = [_in_grammar(word) for word in overrides]
    arguments = replace(arguments, overrides=overrides)
    register_models(CONF_DIR, *filter(None, [arguments.config_dir]))
    resumed = register_resumed(arguments.words()) if config_name == "train" else None
    if resumed is not None:
        # Another process of several devices starts with the same command after the first has
        # recorded its config, which then has the added keys.
        overrides = [re.sub(r"^\+(?!\+)", "++", word) for word in overrides]
        arguments = replace(arguments, overrides=overrides)
    if problems or not arguments.flags.keys() & INFORMATION:
        primary = resumed or config_name
        arguments = check_arguments(arguments, problems, primary, config_name, check, aliases)
    if "--help" in arguments.flags:
        print(help_text(arguments, resumed or config_name, aliases))
        sys.exit()
    sys.argv[1:] = arguments.words()
    return resumed or config_name


def _in_grammar(word: str) -> str:
    """Return an override as Hydra takes it; one that cannot be read as it is, for the check."""
    try:
        return readable(word)
    except UserError:
        return word


def _end_sweep() -> None:
    """Print where the results of a sweep lie; exit with code 1 if a job has failed."""
    folder = OutputFolder.sweep
    if folder is None or not folder.is_dir():
        return
    summary, failed = sweep_summary(folder)
    print(summary)
    if failed and os.environ.get(_FULL_ERROR) != "1":
        sys.exit(
            f"error: {failed} job{'s' * (failed > 1)} failed; the same command with "
            f"hydra.sweep.dir={folder} runs what is not completed"
        )


def _exit_with_message(error: Exception) -> None:
    """Exit if the error is a user's mistake and no traceback is wanted."""
    if os.environ.get(_FULL_ERROR) != "1" and (message := user_message(error)) is not None:
        remove_unused()
        sys.exit(f"error: {printable(message, _MAX_MESSAGE, lines=True)}")


def _report_thread(error: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, but not of a file that TensorBoard's cannot write.

    It raises the same error once more where the run logs its next value.
    """
    if not isinstance(error.exc_value, OSError):
        threading.__excepthook__(error)


def _printable_record(record: logging.LogRecord) -> bool:
    """Make control characters visible that a line of the log has from a file's content or name."""
    record.msg, record.args = printable(record.getMessage(), _MAX_MESSAGE, lines=True), None
    return True
