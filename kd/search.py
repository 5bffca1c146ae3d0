"""`python -m kd.search`: search for the settings with the best validation figure."""

import importlib.util
import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kd.config.command import command
from kd.config.compose import plain
from kd.config.headline import headline
from kd.errors import UserError
from kd.validation import config_problems

log = logging.getLogger(__name__)


@command("search", check=config_problems)
def main(cfg: DictConfig) -> float:
    """Run the missing trials, print the best, and return its validation figure."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("python -m kd.search needs Optuna: pip install -e '.[search]'")
    if (line := headline(cfg)) is not None:
        log.info("%s, best of %s trials", line, cfg.search.trials)

    from kd.build.data import data_task
    from kd.io.task_figures import FIGURES
    from kd.tuning.identity import search_identity
    from kd.tuning.report import report
    from kd.tuning.search_settings import check_settings
    from kd.tuning.space import read_space
    from kd.tuning.trial_configs import (
        check_space,
        default_values,
        trial_config,
    )
    from kd.tuning.trial_overrides import without_search

    settings = plain(cfg.search)
    check_settings(settings)
    space = read_space(settings.pop("space"))
    folder, base = Path(cfg.paths.run), without_search(HydraConfig.get().overrides.task)
    default = check_space(space, base)

    from kd.tuning.study import Search  # loads torch and Lightning, after all checks

    search = Search(
        space,
        defaults=default_values(space, base),
        compose=lambda overrides: trial_config(base, overrides),
        identity=search_identity(default, space, settings),
        folder=folder,
        settings=settings,
    )
    try:
        search.run()
    except (KeyboardInterrupt, SystemExit):
        log.warning("interrupted; resume with the same command and hydra.run.dir=%s", folder)
        raise
    return report(search, base, folder, FIGURES[data_task(default).name])


if __name__ == "__main__":
    main()
