"""Identity of a search: the settings that its proposals and results depend on."""

from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage

from kd.config.identity import content_hash, settings_hash
from kd.errors import UserError
from kd.io.checksums import read_intact, write_json
from kd.io.search_folder import STUDY
from kd.tuning.space import Space
from kd.tuning.storage_url import StorageUrl


def search_identity(default: DictConfig, space: Space, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what must be equal for a search to be resumed or shared.

    Args:
        default: the config with the default settings.
        space: distributions by key.
        settings: seed and pruning, as in conf/search.yaml.
    """
    return {
        "config": settings_hash(default),
        "space": {key: distribution_to_json(part) for key, part in space.items()},
        "seed": settings["seed"],
        "pruning": settings["pruning"],
    }


def study_name(identity: dict[str, Any]) -> str:
    """Return the name of the study, so that two searches never share one."""
    return f"kd-{content_hash(identity)}"


def claim_folder(folder: Path, url: StorageUrl, identity: dict[str, Any]) -> None:
    """Record the search that a folder holds.

    Raises:
        UserError: the folder holds another search.
    """
    inside = url.file is not None and url.file.is_relative_to(folder.absolute())
    ours = identity | {"storage": url.file.name if inside and url.file else url.shown}
    file = folder / STUDY
    theirs = read_intact(file)
    if theirs is None:
        write_json(file, ours)
        return
    changed = [key for key, value in ours.items() if theirs.get(key) != value]
    if changed:
        raise UserError(
            f"{folder} holds the search of another {' and '.join(changed)} (see {file}): "
            f"{_difference(theirs, ours, changed[0])}; repeat its command to resume it, or choose "
            "another folder with hydra.run.dir=…"
        )


def _difference(theirs: dict[str, Any], ours: dict[str, Any], key: str) -> str:
    if key == "config":
        return "a setting of the runs differs"
    return f"search.{key} was {theirs.get(key)} and is {ours[key]}"


def refuse_other_studies(backend: BaseStorage, url: StorageUrl, name: str) -> int:
    """Refuse a file that holds another search.

    A server holds many searches, each under its own name.

    Returns:
        The number of the server's other studies.

    Raises:
        UserError: the file holds another search.
    """
    others = {*optuna.get_all_study_names(backend)} - {name}
    if others and url.file is not None:
        raise UserError(
            f"search.storage: {url.shown} holds the search of another config or space; choose "
            "another folder with hydra.run.dir=… or another search.storage"
        )
    return len(others)
