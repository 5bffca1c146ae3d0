"""`python -m kd.search`: look for the settings with the best validation accuracy."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kd.config.command import command
from kd.config.compose import plain
from kd.config.identity import config_hash, content_hash
from kd.errors import UserError
from kd.tuning.report import report
from kd.tuning.space import read_space
from kd.tuning.trial_configs import (
    check_settings,
    checked_space,
    composed,
    default_values,
    run_overrides,
)

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


@command("search")
def main(cfg: DictConfig) -> float:
    """Run the trials that are missing, print the best, and return its validation accuracy."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("python -m kd.search needs Optuna: pip install -e '.[search]'")
    settings = plain(cfg.search)
    check_settings(settings)
    space = read_space(settings.pop("space"))
    folder, base = Path(cfg.paths.run), run_overrides(HydraConfig.get().overrides.task)
    default = checked_space(space, base)
    from kd.tuning.study import Search

    experiment = content_hash([config_hash(default), {k: repr(v) for k, v in space.items()}])
    search = Search(
        space,
        defaults=default_values(space, base),
        compose=lambda overrides: composed(base, overrides),
        experiment=experiment,
        folder=folder,
        settings=settings,
    )
    try:
        search.run()
    except (KeyboardInterrupt, SystemExit):
        log.warning("interrupted; the same command goes on with: hydra.run.dir=%s", folder)
        raise
    return report(search, base, folder)


if __name__ == "__main__":
    main()
