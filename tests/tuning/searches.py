"""Spaces and settings that several tests of searches share."""

from typing import Any

from optuna.distributions import FloatDistribution

from kd.tuning.space import Space

RATE: Space = {"optimizer.lr": FloatDistribution(0.001, 0.3, log=True)}
SETTINGS: dict[str, Any] = {"trials": 6, "seed": 0, "storage": None, "heartbeat": 1}
SETTINGS |= {"pruning": {"startup": 1, "warmup": 0}}
