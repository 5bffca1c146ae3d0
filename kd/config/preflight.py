"""Check of a command line before Hydra runs it: every mistake in one message, nothing written."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kd.compat import hydra_session
from kd.config.arguments import Arguments
from kd.config.compose import CONF_DIR
from kd.config.grammar import parse
from kd.config.override_mistakes import Overrides, compose_all, read_overrides
from kd.config.setting_mistakes import setting_problems
from kd.config.sweep_jobs import jobs, outside_a_sweep, swept, values
from kd.errors import UserError, nearest
from kd.io.regular_files import real_path

# Messages for the mistakes of a run's config, without Hydra's part
Check = Callable[[DictConfig], list[str]]


def check_arguments(
    arguments: Arguments,
    problems: Sequence[str],
    name: str,
    command: str,
    check: Check | None,
    aliases: Mapping[str, str],
) -> Arguments:
    """Check a command line as a whole.

    Args:
        arguments: the command line, with short forms written out.
        problems: mistakes found so far.
        name: of the primary config.
        command: name of the command's own primary config, which `name` is unless a run is resumed.
        check: further mistakes of a config; costs the import of torch, so that it is called for
            sweeps, and beside other mistakes only.
        aliases: names by which keys of the config are given.

    Returns:
        The command line as Hydra takes it.

    Raises:
        UserError: lists every mistake.
    """
    name = arguments.flags.get("--config-name", name).removesuffix(".yaml")
    folder = real_path(Path(arguments.flags.get("--config-path", CONF_DIR)).expanduser())
    if not (folder / f"{name}.yaml").is_file() and folder != CONF_DIR:
        raise UserError(
            f"--config-path={folder}: it holds no {name}.yaml; --config-dir=FOLDER adds a folder "
            "to the config folder of kd"
        )
    _refuse_unknown_config(name, [folder, arguments.config_dir], arguments)
    with warnings.catch_warnings(), hydra_session(str(folder), arguments.config_dir) as loader:
        warnings.simplefilter("ignore")  # Hydra's, of which those that matter are mistakes here
        overrides = read_overrides(arguments.overrides, loader, aliases)
        overrides.problems[:0] = problems
        words = overrides.words
        found = _problems(overrides, name, command, loader, arguments, check)
    if found:
        raise UserError(_listed(found))
    return replace(arguments, overrides=words)


def _refuse_unknown_config(name: str, folders: Sequence[Path | None], arguments: Arguments) -> None:
    names = [path.stem for folder in folders if folder for path in folder.glob("*.yaml")]
    if "--config-name" in arguments.flags and name not in names and "/" not in name:
        raise UserError(f"--config-name={name}: there is no such file; {nearest(name, names)}")


def _problems(
    overrides: Overrides,
    name: str,
    command: str,
    loader: Any,
    arguments: Arguments,
    check: Check | None,
) -> list[str]:
    sweeps = [o for o in overrides.parsed if o.is_sweep_override()]
    overrides.parsed = [o for o in overrides.parsed if not o.is_sweep_override()]
    first = replace(overrides, parsed=[*overrides.parsed, *_first(sweeps, loader)], problems=[])
    cfg = compose_all(name, first)
    problems = [*overrides.problems, *first.problems]
    if cfg is None:
        return problems
    if not _is_sweep(cfg, arguments):
        problems += map(outside_a_sweep, sweeps)
        problems += setting_problems(cfg, first.parsed, command, name != command)
        if problems and check and _has_more(first, len(problems)):
            with suppress(Exception):  # the mistakes found above may keep it from working
                problems += check(_of_job(cfg))
        return _once(problems)
    named = {o.key_or_group for o in overrides.parsed} | {o.key_or_group for o in sweeps}
    sweeps += [o for o in swept(cfg, loader) if o.key_or_group not in named]
    basic = "BasicSweeper" in str(OmegaConf.select(cfg, "hydra.sweeper._target_"))
    each = [found for o in sweeps if (found := values(o))] if basic else []
    for job in jobs(each):
        problems += _job_problems(overrides, job, name, command, loader, check)
    return _once(problems)


def _has_more(overrides: Overrides, count: int) -> bool:
    """Whether settings are given whose values `check` may find wrong as well."""
    return not overrides.unclear and len(overrides.parsed) > count


def _first(sweeps: Sequence[Override], loader: Any) -> list[Override]:
    return [parse(found[0], loader) for o in sweeps if (found := values(o))]


def _job_problems(
    overrides: Overrides, job: list[str], name: str, command: str, loader: Any, check: Check | None
) -> list[str]:
    """Return the mistakes of one job of a sweep."""
    words = [parse(word, loader) for word in job]
    one = replace(overrides, parsed=[*overrides.parsed, *words], problems=[])
    cfg = compose_all(name, one)
    if cfg is None:
        return one.problems
    problems = [*one.problems, *setting_problems(cfg, one.parsed, command, name != command)]
    if check is not None and not problems:
        problems = check(_of_job(cfg))
    return problems


def _is_sweep(cfg: DictConfig, arguments: Arguments) -> bool:
    return "--multirun" in arguments.flags or cfg.hydra.mode == RunMode.MULTIRUN


def _of_job(cfg: DictConfig) -> DictConfig:
    """Return the config as a job gets it, with a folder that does not exist."""
    with open_dict(cfg), read_write(cfg):
        del cfg["hydra"]
        if "run" in cfg.get("paths", {}):
            cfg.paths.run = "run"
    return cfg


def _once(problems: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(problems))


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join([f"{len(problems)} mistakes on the command line", *problems])
