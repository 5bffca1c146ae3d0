"""Comparison of a chain's folder with the chain that is about to run in it."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kd.chains.stage import ChainStage
from kd.config.experiment import differing, experiment_settings, name_differences
from kd.errors import UserError
from kd.io.documents import read_yaml_text
from kd.io.run_folder import RunFolder

_REMEDY = "choose another folder with hydra.run.dir=…, or delete this one"


def check_earlier(stages: Sequence[ChainStage], folder: Path) -> None:
    """Refuse a folder in which a different chain has run.

    Raises:
        UserError: names the stages, or the settings, that differ.
    """
    found = {path for path in folder.glob("*_*") if RunFolder(path).config.exists()}
    other = sorted(path.name for path in found - {stage.folder for stage in stages})
    if other:
        raise UserError(f"{folder} holds stages of another chain: {', '.join(other)}; {_REMEDY}")
    for stage in stages:
        if stage.folder in found:
            saved = _load(RunFolder(stage.folder).config)
            # The part that the numbers depend on: a chain may resume with other loggers or paths.
            changes = differing(experiment_settings(saved), experiment_settings(stage.cfg))
            if changes:
                named = name_differences(changes)
                raise UserError(f"{stage} in {folder} has run with {named}; {_REMEDY}")


def _load(file: Path) -> DictConfig:
    try:
        saved = OmegaConf.create(read_yaml_text(file))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{file} cannot be read: {error}; {_REMEDY}") from error
    if not isinstance(saved, DictConfig):
        raise UserError(f"{file} is damaged: not a config; {_REMEDY}")
    return saved
