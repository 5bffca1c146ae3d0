"""Whose classes and folders the record of a run may name."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from kd.config.overrides import config_dirs
from kd.errors import UserError


class Trust(NamedTuple):
    """What the record of a finished run may name beside what `conf/` names.

    Attributes:
        config_dirs: the user's config folders; classes that their files name are allowed.
        record: the run is the user's own: whatever its record names is allowed.
    """

    config_dirs: Sequence[Path] = ()
    record: bool = False


NO_TRUST = Trust()


def given_trust(cfg: DictConfig) -> Trust:
    """Return what `--config-dir` and `trust=` of the command line allow.

    Raises:
        UserError: `trust` is neither true nor false.
    """
    if not isinstance(cfg.trust, bool):
        raise UserError(f"trust={cfg.trust}: must be true or false")
    return Trust(config_dirs(sys.argv[1:]), cfg.trust)
