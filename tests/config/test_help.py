"""`--help` explains settings with the comments of the YAML files."""

import re

import pytest

from kd.config.arguments import read_arguments
from kd.config.compose import CONF_DIR, register_models
from kd.config.help import help_text


def shown(name: str, *words: str) -> str:
    register_models(CONF_DIR)
    arguments, problems = read_arguments(["--help", *words])
    assert not problems
    return help_text(arguments, name)


@pytest.mark.parametrize("name", ["train", "search", "report", "cache"])
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


def test_options_included_by_an_option_are_explained():
    """resnet8 is a difference from resnet20, whose file explains the channels."""
    section = shown("train").partition("\nstudent:")[2]
    assert re.search(r"^    channels: +# stem", section, re.MULTILINE)


def test_the_help_is_of_the_chosen_options():
    assert "decay_temperature" not in shown("train")
    assert "# standardise the logits per sample" in shown("train", "method=kd")
