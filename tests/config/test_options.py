"""Every YAML file composes, passes the check, and documents a command that is valid."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lightning import LightningDataModule
from model_configs import DETECTORS, TEXT
from support import composed

from kd.config.compose import CONF_DIR
from kd.config.overrides import expand_shorthand
from kd.validation.check import check_config

GROUPS = {
    "method": "method",
    "objective": "objective@method.objectives.hard",
    "mode": "mode",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "trainer": "trainer",
    "callbacks": "callbacks",
    "logger": "logger",
    "paths": "paths",
    "debug": "debug",
    "recipe": "recipe",
    "experiment": "experiment",
    "sweep": "sweep",
    "data": "data",
    "data/view": "data/view",
    "data/augment": "data/augment",
    "data/second": "+data/second",
    "teacher": "teacher",
    "schedule": "+schedule@method.schedules.soft",
}
FILES = sorted(CONF_DIR.rglob("*.yaml"))
# Options that are valid only together with another one
EXTRA = {
    "objective/detection_loss": ["data=digits_scenes"],
    "data/external": ["data._target_=lightning.LightningDataModule"],
    "data/image_folder": ["data.root=somewhere"],
    "data/coco": ["data.root=somewhere"],
    "teacher/none": ["method=ce"],
    "teacher/itself": ["mode=pskd"],
    "teacher/peers": ["mode=online"],
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


# Commands in comments with one of these are not composed
INCOMPLETE = ("resume=FOLDER", "mypackage.Decay", "=…", "...", "hydra/launcher=")


def launched_by_its_own_command(group: str, name: str) -> bool:
    """Whether a command in the option's own comment selects it and is composed below."""
    text = (CONF_DIR / group / f"{name}.yaml").read_text()
    commands = re.findall(r"^# python -m kd\.train(.*)$", text, re.MULTILINE)
    complete = [c.partition("  #")[0] for c in commands if not any(p in c for p in INCOMPLETE)]
    return any(f"{group}={name}" in command.split() for command in complete)


CHOICES = [(group, name) for group in GROUPS for name in options(group)]
REMAINING = [choice for choice in CHOICES if not launched_by_its_own_command(*choice)]
MODELS = options("model")


@pytest.mark.parametrize(("group", "name"), REMAINING, ids=["/".join(c) for c in REMAINING])
def test_every_option_composes_and_passes_the_check(group, name):
    check_config(composed(f"{GROUPS[group]}={name}", *EXTRA.get(f"{group}/{name}", [])))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_a_teacher_and_a_student(name):
    data = ["data=text"] if name in TEXT else []
    data = ["data=digits_scenes"] if name in DETECTORS else data
    data += ["method=cwd"] if name.startswith("faster_rcnn") else []  # det_kd: one stage only
    cfg = composed(*data, f"teacher={name}", f"student={name}")
    check_config(cfg)
    assert cfg.teacher.name.startswith(name)
    assert cfg.student.name.startswith(name)


def test_no_yaml_is_left_untested():
    covered = {CONF_DIR / group / f"{name}.yaml" for group, name in CHOICES}
    covered |= {CONF_DIR / "model" / f"{name}.yaml" for name in MODELS}
    covered |= {
        CONF_DIR / "train.yaml",
        CONF_DIR / "cache.yaml",
        CONF_DIR / "chain.yaml",
        *(CONF_DIR / f"{name}.yaml" for name in ("evaluate", "export", "compress", "predict")),
        CONF_DIR / "report.yaml",
        CONF_DIR / "hydra" / "help" / "kd.yaml",
        # tests/tuning, tests/test_sweeps.py
        CONF_DIR / "search.yaml",
        *(CONF_DIR / "search").glob("*.yaml"),
        CONF_DIR / "hydra" / "launcher" / "slurm.yaml",
        CONF_DIR / "hydra" / "launcher" / "ray.yaml",
    }
    assert set(FILES) == covered


DOCUMENTED = [*FILES, CONF_DIR / "README.md"]


@pytest.mark.parametrize("path", DOCUMENTED, ids=[str(p.relative_to(CONF_DIR)) for p in DOCUMENTED])
def test_commands_in_comments_are_valid(path: Path, monkeypatch):
    mine: Any = ModuleType("mypackage")  # of the user, in a comment
    mine.MyData = type("MyData", (LightningDataModule,), {"__init__": lambda self, root: None})
    monkeypatch.setitem(sys.modules, "mypackage", mine)
    for line in re.findall(r"^(?:# )?python -m kd\.train(.*)$", path.read_text(), re.MULTILINE):
        arguments = line.partition("  #")[0]
        if "resume=FOLDER" in arguments or "mypackage.Decay" in arguments:
            continue  # the latter is run by test_own_classes.py
        overrides = [a.strip("'\"") for a in arguments.split() if not a.startswith("-")]
        if "hydra/launcher=slurm" in overrides:
            pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
        if "hydra/launcher=ray" in overrides:
            pytest.importorskip("hydra_plugins.hydra_ray_launcher")
        of_folders = {"data=image_folder", "data=coco"}
        missing = ["data.root=x"] if of_folders & {*overrides} else []
        if "=…" not in arguments and "..." not in arguments:
            check_config(
                composed(*[expand_shorthand(o.split(",")[0]) for o in overrides], *missing)
            )


@pytest.mark.parametrize("method", options("method"))
def test_the_hard_labels_have_the_remaining_weight(method):
    if "\nalpha: " not in (CONF_DIR / "method" / f"{method}.yaml").read_text():
        pytest.skip("a method without alpha")
    cfg = composed(f"method={method}", "method.alpha=0.25")
    shared = cfg.method.beta if method == "feature" else 0
    assert cfg.method.weights.hard == pytest.approx(1 - 0.25 - shared)
    assert cfg.method.weights.soft == 0.25
