"""`--help` explains settings with the comments of the YAML files."""

import re

import pytest
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from kd.compat import hydra_session
from kd.config.arguments import read_arguments
from kd.config.comments import config_comments
from kd.config.compose import CONF_DIR, register_models
from kd.config.help import help_text


def shown(name: str, *words: str, **aliases: str) -> str:
    register_models(CONF_DIR)
    arguments, problems = read_arguments(["--help", *words])
    assert not problems
    return help_text(arguments, name, aliases)


@pytest.mark.parametrize(
    "name", ["train", "search", "report", "cache", "predict", "export", "evaluate", "compress"]
)
def test_comments_beside_settings_of_the_primary_config_are_shown(name):
    text = shown(name)
    for comment in re.findall(
        r"^ *\w+: [^#\n]*[^#\s{}] # (.+)$", (CONF_DIR / f"{name}.yaml").read_text()
    ):
        assert comment in text


def test_a_comment_stands_beside_its_setting():
    text = shown("train", "data=cifar10", "trainer.max_epochs=7")
    assert re.search(r"^  views: null +# number of views of each image", text, re.MULTILINE)
    assert re.search(r"^  split_seed: 0 +# of the validation split", text, re.MULTILINE)
    assert re.search(r"^  max_epochs: 7\b", text, re.MULTILINE)
    assert re.search(r"^    mode: auto +# teacher.cache=auto", text, re.MULTILINE)


def test_a_setting_is_shown_by_the_name_by_which_it_is_given():
    text = shown("compress", search="walk", method="taught_by")
    assert re.search(r"^search: false +# true: compress at each", text, re.MULTILINE)
    assert not re.search(r"\b(walk|taught_by)\b", text)


def test_options_included_by_an_option_are_explained():
    """resnet8 is a difference from resnet20, whose file explains the channels."""
    section = shown("train").partition("\nstudent:")[2]
    assert re.search(r"^    channels: +# stem", section, re.MULTILINE)


def test_the_help_is_of_the_chosen_options():
    assert "decay_temperature" not in shown("train")
    assert "# standardise the logits per sample" in shown("train", "method=kd")


def settings(node: DictConfig, place: str = "") -> list[str]:
    """Dotted keys of all values; a class and the name of an option are no settings."""
    found = []
    for key in map(str, node):
        value = node._get_node(key)
        if isinstance(value, DictConfig) and value._content and not isinstance(value._content, str):
            found += settings(value, f"{place}{key}.")
        elif key not in ("_target_", "name"):
            found.append(f"{place}{key}")
    return found


def unexplained(name: str, *words: str) -> list[str]:
    """Settings that have no comment, and are in no mapping that has one."""
    register_models(CONF_DIR)
    with hydra_session(str(CONF_DIR), None):
        cfg = compose(name, [*words], return_hydra_config=True)
    comments = config_comments(name, cfg.hydra.runtime.choices)
    visible = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return [
        key
        for key in settings(visible)
        if not any(key == place or key.startswith(f"{place}.") for place in comments)
    ]


@pytest.mark.parametrize(
    "name",
    ["train", "chain", "search", "report", "cache", "predict", "export", "evaluate", "compress"],
)
def test_every_setting_of_a_command_is_explained(name):
    assert not unexplained(name)


@pytest.mark.parametrize(
    "group",
    ["optimizer", "scheduler", "data/view", pytest.param("student", marks=pytest.mark.slow)],
)
def test_every_setting_of_an_option_is_explained(group):
    folder = CONF_DIR / ("model" if group == "student" else group)
    words = [f"{group}={file.stem}" for file in sorted(folder.glob("*.yaml"))]
    assert not {word: found for word in words if (found := unexplained("train", word))}
