"""`python -m kd.train`: distil a student, or a grid of them with `-m`."""

from omegaconf import DictConfig

from kd.cli import command


@command("train")
def main(cfg: DictConfig) -> float:
    """Run one job and return its validation accuracy, which a sweep may optimise."""
    from pathlib import Path

    from kd.results import print_summary
    from kd.run import run

    result = run(cfg, Path(cfg.paths.run))
    print_summary(result)
    return float(result["val/acc"])


if __name__ == "__main__":
    main()
