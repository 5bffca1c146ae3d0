"""Starts commands within the tests' process, up to the point where Hydra would run the job."""

import sys

import hydra
from hydra import compose
from omegaconf import open_dict

from kd.compat import hydra_session
from kd.config.arguments import INFORMATION, read_arguments
from kd.config.command import command
from kd.config.compose import CONF_DIR
from kd.validation import config_problems

_RUNS = ("train", "chain", "search")
_ALIASES = {
    "report": {"sweep": "folder"},
    "predict": {"several": "images", "texts": "texts", "teacher": "with_teacher"},
}


def start(monkeypatch, name: str, *words: str) -> str:
    """Start `kd.name` and return what it ends with.

    Returns:
        "error: …" for a mistake, else the command line that Hydra gets.
    """

    def take_over(path, primary, version_base):
        return lambda job: lambda: None

    monkeypatch.setattr(hydra, "main", take_over)
    monkeypatch.setattr(sys, "argv", [f"kd.{name}", *words])
    check = config_problems if name in _RUNS else None
    try:
        command(name, check=check, **_ALIASES.get(name, {}))(lambda cfg: None)()
    except SystemExit as end:
        return str(end.code)
    return " ".join(sys.argv[1:])


def job_problems(name: str) -> list[str]:
    """Return what the check of a run finds in the config of the command that was accepted last."""
    arguments, _ = read_arguments(sys.argv[1:])
    if name not in _RUNS or arguments.flags.keys() & {*INFORMATION, "--multirun", "--cfg"}:
        return []
    with hydra_session(str(CONF_DIR), arguments.config_dir):
        cfg = compose(arguments.flags.get("--config-name", name), arguments.overrides)
    with open_dict(cfg):
        cfg.paths.run = "run"
    return config_problems(cfg)
