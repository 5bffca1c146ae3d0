"""Words of a command line: Hydra's flags, in any place, and overrides."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.errors import UserError, nearest
from kd.io.regular_files import real_path

# Hydra's flags with their short forms: those without a value, and those with one
SWITCHES = {
    "--help": "-h", "--hydra-help": "", "--version": "", "--resolve": "", "--run": "-r",
    "--multirun": "-m", "--shell-completion": "-sc",
}  # fmt: skip
VALUED = {
    "--cfg": "-c", "--package": "-p", "--config-path": "-cp", "--config-name": "-cn",
    "--config-dir": "-cd", "--info": "-i", "--experimental-rerun": "",
}  # fmt: skip
_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_ACTIONS = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
# Flags that print something and end
INFORMATION = ("--help", "--hydra-help", "--version", "--shell-completion", "--info")
# Dashes that word processors and web pages put in place of "-"
_OTHER_DASHES = "‐‑‒–—−"


@dataclass(frozen=True)
class Arguments:
    """A command line, taken apart.

    Attributes:
        flags: long form of each flag -> its value; empty for a flag without one.
        overrides: the other words, in order.
    """

    flags: dict[str, str]
    overrides: list[str]

    def words(self) -> list[str]:
        """Return the command line as Hydra takes it: flags first."""
        flags = [f"{flag}={value}" if value else flag for flag, value in self.flags.items()]
        return [*flags, *self.overrides]

    @property
    def config_dir(self) -> Path | None:
        """The folder given with --config-dir, whose models are options as well."""
        folder = self.flags.get("--config-dir")
        return real_path(Path(folder).expanduser()) if folder else None


def read_arguments(words: Sequence[str]) -> tuple[Arguments, list[str]]:
    """Take a command line apart.

    Args:
        words: the command line, without the command.

    Returns:
        The parts, and a message for each flag that is wrong.

    Example:
        >>> arguments, problems = read_arguments(["method=kd", "-m", "seed=0,1"])
        >>> arguments.words(), problems
        (['--multirun', 'method=kd', 'seed=0,1'], [])
    """
    flags: dict[str, str] = {}
    overrides, problems, rest = [], [], [*words]
    while rest:
        word = rest.pop(0)
        if word[:1] in _OTHER_DASHES and word[:1]:
            problems.append(f"{word}: begins with a dash of typography; flags begin with -")
        elif not word.startswith("-"):
            overrides.append(word)
        else:
            try:
                flags |= _flag(word, rest)
            except UserError as error:
                problems.append(str(error))
    if "--shell-completion" in flags and not any(
        word.startswith(("install=", "uninstall=", "query=")) for word in overrides
    ):
        problems.append("--shell-completion: add install=bash, install=zsh or install=fish")
    return Arguments(flags, overrides), [*problems, *_combinations(flags)]


def typed_command(name: str) -> str:
    """Return the command as it was typed; in `sys.argv` its short forms are expanded."""
    typed = sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]
    return f"python -m kd.{name} {shlex.join(typed)}"


def _flag(word: str, rest: list[str]) -> dict[str, str]:
    """Return the flag that a word is, with its value, which may be the first of `rest`."""
    typed, equals, value = word.partition("=")
    flag = _long_form(typed)
    if flag is None:
        if not equals and rest and "=" not in rest[0] and not rest[0].startswith("-"):
            value = rest.pop(0)
        raise UserError(_unknown(typed, value))
    if flag in SWITCHES:
        if equals:
            raise UserError(f"{word}: {flag} takes no value")
        return {flag: ""}
    choices = _CHOICES.get(flag)
    if not equals:
        value = _next_value(flag, rest)
    if not value:
        raise UserError(f"{flag}: a value is missing, as {flag}={(choices or ('…',))[0]}")
    if choices and value not in choices:
        raise UserError(f"{flag}={value}: there is no such part; {nearest(value, choices)}")
    return {flag: value}


def _next_value(flag: str, rest: list[str]) -> str:
    if flag == "--info" and not (rest and rest[0] in _CHOICES[flag]):
        return "all"  # its value is optional
    return rest.pop(0) if rest and not rest[0].startswith("-") else ""


def _long_form(typed: str) -> str | None:
    known = {**SWITCHES, **VALUED}
    exact = [flag for flag, short in known.items() if typed in (flag, short)]
    # As argparse has it, an unambiguous beginning is enough.
    begun = [flag for flag in known if len(typed) > 3 and flag.startswith(typed)]
    return exact[0] if exact else begun[0] if len(begun) == 1 else None


def _unknown(typed: str, value: str) -> str:
    name, flags = typed.lstrip("-"), [*SWITCHES, *VALUED]
    close = nearest(typed, flags) if len(name) > 1 else ""
    hint = close.partition("?")[0] + "? " if close.startswith("did you mean") else ""
    return (
        f"{typed}: there is no such flag; {hint}settings are written without dashes, as "
        f"{name.replace('-', '_') or 'seed'}={value or '…'}"
    )


def _combinations(flags: dict[str, str]) -> list[str]:
    problems = []
    if "--experimental-rerun" in flags:
        problems.append(
            "--experimental-rerun: it would execute what a pickle file holds; an interrupted run "
            "is resumed with resume=FOLDER"
        )
    if not flags.keys() & {"--cfg", "--help"}:
        problems += [f"{f}: goes with --cfg job" for f in ("--resolve", "--package") if f in flags]
    if len(actions := [flag for flag in _ACTIONS if flag in flags]) > 1:
        problems.append(f"{' '.join(actions)}: choose one of them")
    folder = flags.get("--config-dir")
    if folder is not None and not Path(folder).expanduser().is_dir():
        problems.append(f"--config-dir={folder}: there is no such folder")
    return problems
