"""What a run was told, written down when nothing speaks against it any more.

Hydra itself would write this before anything is checked, and so put the words of a command that is
refused in the place of those that made what lies in the folder.
"""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder


def write_record(folder: Path, cfg: DictConfig, hydra: DictConfig | None = None) -> None:
    """Write a run's config and, of a command, its command line and Hydra's part of the config.

    Unresolved, so that `data.seed: ${seed}` is the same for all seeds of a sweep.

    Args:
        folder: the run's.
        cfg: the run's config.
        hydra: Hydra's part; None for a run that is part of another.
    """
    run = RunFolder(folder)
    files: dict[Path, Any] = {run.config: cfg}
    if hydra is not None:
        files |= {
            run.overrides: hydra.overrides.task,
            run.hydra: OmegaConf.create({"hydra": hydra}),
        }
    for file, content in files.items():
        write_atomic(file, OmegaConf.to_yaml(content).encode())


def recorded_command(folder: Path) -> list[str]:
    """The arguments with which the run in a folder was begun.

    Raises:
        UserError: there is no record, or it is damaged.
    """
    file = RunFolder(folder).overrides
    if not file.is_file():
        raise UserError(
            f"resume={folder}: it holds no {file.relative_to(folder)}, so say how it was begun"
        )
    overrides = _read(file)
    if not isinstance(overrides, list) or not all(map(_is_override, overrides)):
        raise UserError(f"{file} is damaged: it should be a list of key=value")
    return [*_places(RunFolder(folder).hydra), *overrides]


def _is_override(line: Any) -> bool:
    return isinstance(line, str) and not line.startswith("-")  # a flag may name a config folder


def _places(file: Path) -> list[str]:
    """Where else the run had its options from, which is no override of its own."""
    match _read(file) if file.is_file() else None:
        case None:
            return []
        case {"hydra": {"runtime": {"config_sources": [*sources]}, "overrides": {"hydra": [*own]}}}:
            flags = [
                f"--config-dir={path}"
                for source in sources
                if (path := _command_line_path(source)) is not None
            ]
            return [*flags, *(o for o in own if str(o).startswith("hydra.searchpath="))]
    raise UserError(f"{file} is damaged: it should say where the options came from")


def _command_line_path(source: Any) -> str | None:
    match source:
        case {"provider": "command-line", "path": str(path)}:
            return path
    return None


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
