"""Sampling: reproducible by seed and trial number, over restarts and workers."""

from pathlib import Path

import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from searches import RATE

from kd.tuning.sampler import SeededByTrial, suggest
from kd.tuning.space import Space, contains

SPACE: Space = {
    **RATE,
    "momentum": FloatDistribution(0, 1),
    "steps": IntDistribution(2, 8, step=2),
    "n": CategoricalDistribution((1, "a")),
}


def sampled(file: Path, *counts: int, seed: int = 3) -> list[dict]:
    """Sample trials; every count is that of another start of the search."""
    for count in counts:
        study = optuna.create_study(
            storage=f"sqlite:///{file}",
            study_name="s",
            sampler=SeededByTrial(seed, SPACE),
            load_if_exists=True,
            direction="maximize",
        )
        for _ in range(count):
            trial = study.ask()
            values = {key: suggest(trial, key, part) for key, part in SPACE.items()}
            assert all(contains(SPACE[key], value) for key, value in values.items())
            study.tell(trial, -abs(values["optimizer.lr"] - 0.01))
    return [trial.params for trial in study.trials]


def test_samples_depend_on_seed_and_trial_number_alone(tmp_path):
    whole = sampled(tmp_path / "a", 14)
    assert sampled(tmp_path / "b", 4, 8, 2) == whole
    assert sampled(tmp_path / "c", 4, seed=4) != whole[:4]
    assert len({trial["momentum"] for trial in whole}) == 14


def test_parameters_of_a_trial_are_independent(tmp_path):
    """A seed that every parameter reused would draw the same quantile for each."""
    for trial in sampled(tmp_path / "a", 3):
        quantile = torch.tensor(trial["optimizer.lr"] / 0.001).log() / torch.tensor(300.0).log()
        assert abs(quantile - trial["momentum"]) > 1e-4


def test_continuous_values_have_four_digits(tmp_path):
    study = optuna.create_study(sampler=SeededByTrial(0, RATE))
    value = suggest(study.ask(), "optimizer.lr", RATE["optimizer.lr"])
    assert float(f"{value:.4g}") == value
