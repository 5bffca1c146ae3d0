"""`--help` of the commands: options, and the config with the comments of its files."""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kd.compat import hydra_session
from kd.config.arguments import Arguments
from kd.config.comments import config_comments
from kd.config.compose import CONF_DIR

# Column of the comments; a longer line has its comment two columns after it.
_COLUMN = 44


def help_text(
    arguments: Arguments, name: str, aliases: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the help of a command, with the settings that its overrides give.

    Args:
        arguments: the command line.
        name: of the primary config.
        aliases: names by which keys of the config are given.
    """
    own = [folder for folder in [arguments.config_dir] if folder is not None]
    with hydra_session(str(CONF_DIR), arguments.config_dir) as loader:
        cfg = compose(name, arguments.overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        template = Template(cfg.hydra.help.template)
        return template.safe_substitute(
            APP_CONFIG_GROUPS=f"{_groups(loader)}\n", CONFIG=f"{_config(cfg, name, own, aliases)}\n"
        )


def _groups(loader: Any, parent: str = "") -> str:
    lines = []
    for group in sorted(loader.list_groups(parent)):
        path = f"{parent}/{group}" if parent else group
        if path == "hydra":
            continue
        if options := loader.get_group_options(path):
            lines.append(f"{path}: {', '.join(options)}")
        lines += filter(None, [_groups(loader, path)])
    return "\n".join(lines)


def _config(cfg: DictConfig, name: str, folders: list[Path], aliases: Mapping[str, str]) -> str:
    """Return the config as YAML, each setting with its comment."""
    comments = config_comments(name, cfg.hydra.runtime.choices, *folders)
    visible = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    given = {key: alias for alias, key in aliases.items()}
    lines: list[str] = []
    path: list[str] = []
    for line in OmegaConf.to_yaml(visible).rstrip().split("\n"):
        depth = (len(line) - len(line.lstrip())) // 2
        if not line.lstrip().startswith("- "):
            path = [*path[:depth], line.strip().partition(":")[0]]
            key = path[0]
            if depth == 0 and key in given:
                line = line.replace(key, given[key], 1)
            comment = comments.get(".".join(path))
            line = f"{line:{_COLUMN}}  # {comment}" if comment else line
        lines.append(line)
    return "\n".join(lines)
