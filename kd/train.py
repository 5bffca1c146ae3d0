"""`python -m kd.train`: distil a student, or a grid of them with `-m`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from kd.cli import command

log = logging.getLogger(__name__)


@command("train")
def main(cfg: DictConfig) -> float:
    """Run one job and return its validation accuracy, which a sweep may optimise."""
    from lightning.pytorch.utilities import rank_zero_only

    from kd.results import print_summary
    from kd.run import run

    folder = Path(cfg.paths.run)
    try:
        result = run(cfg, folder)
    except SystemExit:
        if (folder / "checkpoints" / "last.ckpt").exists():
            log.warning("interrupted; go on with: hydra.run.dir=%s resume=%s", folder, folder)
        raise
    rank_zero_only(print_summary)(result)
    return float(result["val/acc"])


if __name__ == "__main__":
    main()
