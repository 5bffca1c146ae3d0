"""Spaces and settings that several tests of searches share."""

from optuna.distributions import FloatDistribution

RATE = {"optimizer.lr": FloatDistribution(0.001, 0.3, log=True)}
SETTINGS = {"trials": 6, "seed": 0, "storage": None, "heartbeat": 1}
SETTINGS |= {"pruning": {"startup": 1, "warmup": 0}}
