"""Spaces, settings and searches without training that several tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose
from optuna.distributions import FloatDistribution

from kd.tuning.space import Space
from kd.tuning.study import Search
from kd.tuning.trial_configs import default_values

RATE: Space = {"optimizer.lr": FloatDistribution(0.001, 0.3, log=True)}
SETTINGS: dict[str, Any] = {"trials": 6, "seed": 0, "storage": None, "heartbeat": 1}
SETTINGS |= {"pruning": {"startup": 1, "warmup": 0}}


def near_two_percent(lr: float) -> float:
    """Accuracy of a run that costs nothing."""
    return 1 - abs(lr - 0.02)


def free_search(
    folder: Path,
    monkeypatch: Any,
    accuracy: Callable[[float], float] = near_two_percent,
    space: Space = RATE,
    identity: Any = "x",
    **settings: Any,
) -> Search:
    """Make a search whose runs have the `accuracy` of their learning rate, and train nothing."""

    def fake(cfg: Any, run_folder: Path, callbacks: Any, test: bool) -> dict[str, Any]:
        assert not test
        assert run_folder == Path(cfg.paths.run)
        return {"val/acc": accuracy(cfg.optimizer.lr), "best_epoch": 1}

    monkeypatch.setattr("kd.tuning.trial.run", fake)
    base = ["method=ce", "paths.run=run"]
    return Search(
        space,
        default_values(space, base),
        lambda overrides: compose("train", [*base, *overrides]),
        {"config": identity},
        folder,
        SETTINGS | settings,
    )


def found(search: Search) -> list[tuple[int, str, dict[str, Any], float | None]]:
    """Number, state, values and accuracy of every trial of a search."""
    return [(t.number, t.state.name, t.params, t.value) for t in search.study.trials]
