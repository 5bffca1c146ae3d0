"""Plans of compressions, from the settings of the command."""

from typing import cast

from omegaconf import DictConfig, OmegaConf

from kd.config.compose import CONF_DIR
from kd.deploy.compression.plan import Plan


def plan(run, **settings):
    """A plan from `conf/compress.yaml` and further settings; any loss is accepted."""
    cfg = OmegaConf.load(CONF_DIR / "compress.yaml")
    given = OmegaConf.create({"run": str(run), "max_drop": 100} | settings)
    return Plan.from_settings(cast(DictConfig, OmegaConf.merge(cfg, given)))
