"""Record of a run's config in its folder, and the config of a resumed run.

Hydra writes its own record before the config is checked, so that a refused command would replace
the record of the run that lies in the folder. Here the config is written once it is accepted.
"""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.config.compose import CONF_DIR
from kd.config.messages import without_class_names
from kd.config.overrides import config_dirs, given_values, override_key
from kd.config.own_names import own_names
from kd.config.trust import NO_TRUST, Trust
from kd.config.verify import OUTSIDE, Refusal, verify
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.documents import read_yaml, read_yaml_text
from kd.io.regular_files import real_path
from kd.io.run_folder import RunFolder

_NAME = "resumed"  # of the primary config in Hydra's store
# Keys of every run's config
_PARTS = {"data", "method", "mode", "optimizer", "paths", "seed", "student", "teacher", "trainer"}
# Keys that configure Hydra. It calls what they name before any check of ours, so that a record from
# a stranger could run code.
_FOREIGN = {"defaults", "hydra"}
_SHOWN = 10  # refused values in a message


def write_record(folder: Path, cfg: DictConfig, overrides: Sequence[str] | None = None) -> None:
    """Write a run's config and, for a command, its overrides.

    The config is unresolved: a change of `seed` also changes `data.seed: ${seed}` when the run is
    resumed, and an interpolation is equal in all jobs of a sweep.

    Args:
        folder: the run's folder.
        cfg: the run's config.
        overrides: of the command line; None for a run that is part of another.
    """
    run = RunFolder(folder)
    write_atomic(run.config, OmegaConf.to_yaml(cfg).encode())
    if overrides is not None:
        write_atomic(run.overrides, yaml.safe_dump([*overrides], allow_unicode=True).encode())


def read_record(folder: Path) -> DictConfig:
    """Return the config recorded in a run's folder, unresolved and unverified.

    Raises:
        UserError: there is none, or it is damaged, or it configures Hydra itself.
    """
    file = RunFolder(folder).config
    try:
        cfg = OmegaConf.create(read_yaml_text(file))
    except FileNotFoundError as error:
        raise UserError(
            f"resume={folder}: it holds no {file.relative_to(folder)}; name a checkpoint instead, "
            "beside the overrides of the run"
        ) from error
    except UserError:
        raise
    except OmegaConfBaseException as error:
        raise UserError(f"{file} cannot be read: {without_class_names(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(cfg, DictConfig) or not cfg.keys() >= _PARTS or _FOREIGN & cfg.keys():
        raise UserError(f"{file} is damaged: it should be the config of a run, without Hydra's own")
    return cfg


def _content(folder: Path) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(read_record(folder)))


def register_resumed(arguments: Sequence[str]) -> str | None:
    """Make the config that `resume=FOLDER` refers to a primary config, if there is such a folder.

    Hydra then applies the other overrides to it as to any config, one a job in a sweep. The run
    writes to FOLDER unless `hydra.run.dir` is overridden.

    Args:
        arguments: the command line.

    Returns:
        The name of the primary config; None for a run that is not resumed from a folder.

    Raises:
        UserError: the record is missing or damaged, or an override chooses an option of a group.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    named = [o.partition("=")[2].strip("'\"") for o in overrides if o.startswith("resume=")]
    folder = Path(named[0]) if len(named) == 1 and named[0] else None
    if folder is None or not folder.is_dir():
        return None  # a checkpoint, or a mistake that the run reports
    if len(overrides) > 1 and not RunFolder(folder).config.is_file():
        return None  # a folder with nothing but checkpoints; the overrides describe the run
    _refuse_options(overrides, folder)
    recorded = _verified_record(folder, config_dirs(arguments), given_values(arguments))
    own = {
        "defaults": ["_self_", {"override hydra/help": "kd"}],
        "paths": {"run": "${hydra:runtime.output_dir}"},
        "hydra": {"run": {"dir": str(folder)}},
    }
    node = OmegaConf.merge(_new_settings(recorded), recorded, own)
    ConfigStore.instance().store(name=_NAME, node=node, provider="kd")
    return _NAME


def recorded_config(folder: Path, setting: str, trust: Trust = NO_TRUST) -> DictConfig:
    """Return the config of a run that is not continued, but used: evaluated, exported, compressed.

    Args:
        folder: the run's folder, which may come from a stranger.
        setting: of the command that names the folder, for messages.
        trust: what the record may name beside what `conf/` names.

    Raises:
        UserError: the record is missing or damaged, or names more.
    """
    if not (file := RunFolder(folder).config).is_file():
        raise UserError(
            f"{setting}={folder}: it holds no {file.relative_to(folder)}, the record of its config"
        )
    recorded, found = _verify(folder, trust.config_dirs, {})
    refusals = [refusal for refusal in found if refusal.reason != OUTSIDE]
    if [refusal.place for refusal in refusals] == [("data", "root")]:
        raise UserError(f"{setting}={folder}: {refusals[0]}; put the data back there")
    if refusals and not trust.record:
        raise UserError(
            f"{setting}={folder}: {_listed(refusals)}\nIf the run is your own, add trust=true, or "
            "give the --config-dir that names them"
        )
    added = {key: value for key, value in _new_settings(recorded).items() if key not in _FOREIGN}
    paths = {"run": str(folder)}
    if "chain" in recorded["paths"]:
        paths["chain"] = str(folder.parent)  # the chain may have been moved since
    if len(refusals) < len(found) and not trust.record:
        # Teachers are read from where the record says; nothing is written there.
        paths["cache"] = str(folder.parent / "cache")
    return cast(DictConfig, OmegaConf.merge(added, recorded, {"paths": paths}))


def _new_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a newer version has added, with their defaults."""
    current = cast(DictConfig, OmegaConf.load(CONF_DIR / "train.yaml"))
    return {str(key): value for key, value in current.items() if key not in recorded}


def _verify(
    folder: Path, folders: Sequence[Path], given: Mapping[str, str]
) -> tuple[dict[str, Any], list[Refusal]]:
    content, refusals = verify(_content(folder), folder, own_names([CONF_DIR, *folders]), given)
    return dict(content), refusals


def _verified_record(
    folder: Path, folders: Sequence[Path], given: Mapping[str, str]
) -> dict[str, Any]:
    """Read a record, plain and unresolved, that names nothing but what the user's own files name.

    Raises:
        UserError: it is missing or damaged, or names more; gives the command that allows it.
    """
    recorded, refusals = _verify(folder, folders, given)
    if refusals:
        raise UserError(f"resume={folder}: {_listed(refusals)}\n{_remedy(folder, refusals)}")
    return recorded


def _listed(refusals: Sequence[Refusal]) -> str:
    lines = "\n- ".join(str(refusal) for refusal in refusals[:_SHOWN])
    more = f"\n- and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
    return (
        "its record, which may come from someone else, has values that only your own command may "
        f"have:\n- {lines}{more}"
    )


def _remedy(folder: Path, refusals: Sequence[Refusal]) -> str:
    typed = [refusal.typed for refusal in refusals]
    if any(refusal.place[-1:] == ("_target_",) for refusal in refusals):
        # No line to paste, which would make a stranger's class one of the user's own.
        return (
            "If they are yours, repeat the overrides that set them, or give your --config-dir, "
            f"beside resume={folder}"
        )
    if any(override is None for override in typed):
        return (
            "If they are yours, give the whole command of the run again, and "
            f"resume={RunFolder(folder).last}"
        )
    line = shlex.join(["python", "-m", "kd.train", f"resume={folder}", *map(str, typed)])
    return f"If they are yours, repeat them, or give your --config-dir: {line}"


def own_folders() -> list[Path]:
    """Return the folders that Hydra was given with `--config-dir`, also in a job of a sweep."""
    sources = HydraConfig.get().runtime.config_sources
    return [Path(s.path) for s in sources if (s.provider, s.schema) == ("command-line", "file")]


def resume_command(folder: Path, folders: Sequence[Path] = ()) -> str:
    """Return the command that resumes a run, with what its record alone may not name.

    Args:
        folder: the run's folder, which has a record.
        folders: the run's config folders beside `conf/`.
    """
    flags = [f"--config-dir={each}" for each in folders]
    try:
        recorded = _content(folder)
        refusals = verify(recorded, folder, own_names([CONF_DIR, *folders]), {}).refusals
    except UserError:  # the record has been deleted
        refusals = []
    typed = [refusal.typed or f"{'.'.join(refusal.place)}=…" for refusal in refusals]
    return shlex.join(["python", "-m", "kd.train", *flags, f"resume={folder}", *typed])


def _refuse_options(overrides: Sequence[str], folder: Path) -> None:
    """Refuse another option of a config group: it would replace part of a config that is whole."""
    groups = {p.relative_to(CONF_DIR).as_posix() for p in CONF_DIR.rglob("*") if p.is_dir()}
    for override in overrides:
        key, is_dict = override_key(override), override.partition("=")[2].startswith("{")
        if key in groups | {"student"} and not key.startswith("hydra/") and not is_dict:
            raise UserError(
                f"{override}: a resumed run keeps the options of its config groups; change single "
                f"settings, such as trainer.max_epochs=90, or give the whole command of a new run "
                f"and resume={RunFolder(folder).last}"
            )


def all_overrides(hydra: DictConfig, resume: Any) -> list[str]:
    """Return the overrides of all commands that a run has had, of which a report lists the common.

    Args:
        hydra: Hydra's part of the config.
        resume: the run's `resume`.
    """
    given, earlier = [str(word) for word in hydra.overrides.task], None
    if hydra.job.config_name != _NAME:
        return given
    with contextlib.suppress(OSError, UserError):  # nothing depends on them
        earlier = read_yaml(RunFolder(Path(resume)).overrides)
    known = earlier if isinstance(earlier, list) else []
    return [*map(str, known), *(word for word in given if not word.startswith("resume="))]


def start_point(cfg: DictConfig, folder: Path) -> Any:
    """Return `resume` as the run should have it.

    A run that was killed before its first checkpoint, and is resumed in its folder, starts again
    where it started first: from the checkpoint that its record names, or from the beginning.
    """
    if not isinstance(cfg.resume, str) or real_path(cfg.resume) != real_path(folder):
        return cfg.resume
    if RunFolder(folder).last.is_file():
        return cfg.resume
    recorded = _content(folder).get("resume")
    if not isinstance(recorded, str) or "${" in recorded:
        return None
    return None if recorded == cfg.resume else recorded
