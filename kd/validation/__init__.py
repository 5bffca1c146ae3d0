"""Checks of a config before a run, subject by subject: each mistake is one line of a message."""

from omegaconf import DictConfig


def config_problems(cfg: DictConfig) -> list[str]:
    """Return all mistakes of a run's config, for a command that has not loaded torch yet."""
    from kd.validation import check

    return check.config_problems(cfg)
