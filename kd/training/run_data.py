"""The data of a run, with the checks that need them."""

import logging

from lightning import Trainer

from kd.build.data import build_data
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.training.figures import check_drawing
from kd.training.limits import warn_of_limits
from kd.validation.check import CheckedConfig
from kd.validation.data import refuse_unsupported
from kd.validation.views import views_wanted

log = logging.getLogger(__name__)


def load_data(checked: CheckedConfig, trainer: Trainer, given: DataModule | None) -> DataModule:
    """Return the run's data, set up.

    Args:
        checked: the run's config and method.
        trainer: its limits may leave out a part of the data, which is warned of.
        given: the data; None: built from the config.

    Raises:
        UserError: the data are missing or damaged, or do not suit the method or the figures.
    """
    cfg = checked.cfg
    data = given or build_data(cfg)
    check_drawing(plain(cfg.figures), data)
    refuse_unsupported(cfg, data, checked.method)
    data.two_views = views_wanted(cfg, checked.method.objectives)
    warn_of_limits(trainer, data)
    if not data.labels:
        log.info(
            "data.labels=false: training labels are not read; the epoch is chosen by the labels of "
            "the %d validation samples",
            data.num_samples["val"],
        )
    return data
