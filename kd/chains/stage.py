"""One stage of a chain: a training run with its own config and folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from omegaconf import DictConfig, ListConfig, open_dict

from kd.errors import UserError


class ChainStage(NamedTuple):
    """A run of a chain.

    Attributes:
        number: counted from 1.
        cfg: what `kd.train` would have as its config.
        folder: the run folder, below the chain's folder.
    """

    number: int
    cfg: DictConfig
    folder: Path

    @property
    def reference(self) -> str:
        """The stage's folder as a path in the config of a later stage."""
        return f"${{paths.chain}}/{self.folder.name}"

    def __str__(self) -> str:
        return f"stage {self.folder.name}"


def compose_stage(overrides: Sequence[str], number: int, folder: Path) -> ChainStage:
    """Compose the config that `kd.train` would have with these overrides."""
    cfg = compose("chain", overrides=list(overrides))
    with open_dict(cfg):
        # Not settings of a run: with them, config_hash would differ from that of a single run.
        del cfg["stages"], cfg["route"]
        # Stages name each other by the chain's folder, which is no part of their identity.
        cfg.paths.run, cfg.paths.chain = str(folder), str(folder.parent)
    return ChainStage(number, cfg, folder)


def list_setting(cfg: DictConfig, key: str, items: str, example: str) -> list[Any]:
    """Return a setting that lists at least two items.

    Raises:
        UserError: it is not such a list; shows an example.
    """
    if not isinstance(cfg[key], ListConfig) or len(cfg[key]) < 2:
        raise UserError(f"{key}={cfg[key]}: must be at least two {items}, such as {key}={example}")
    return list(cfg[key])
