"""Models as options of the groups `teacher` and `student`."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kd.config.compose import CONF_DIR, model_config, model_taps, register_models
from kd.errors import UserError


def test_models_outside_the_repository_are_options(tmp_path):
    (tmp_path / "model").mkdir()
    content = {"defaults": ["resnet8", "_self_"], "name": "mine", "net": {"width": 2.0}}
    OmegaConf.save(OmegaConf.create(content), tmp_path / "model" / "mine.yaml")
    register_models(CONF_DIR, tmp_path)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", [f"hydra.searchpath=[file://{tmp_path}]", "student=mine"])
    assert (cfg.student.name, cfg.student.net.width) == ("mine", 2.0)


def test_an_unknown_model_names_the_nearest():
    register_models(CONF_DIR)
    with pytest.raises(UserError, match="no model 'resnet21'; did you mean 'resnet"):
        model_config("resnet21")


def test_the_taps_of_a_model_are_plain():
    register_models(CONF_DIR)
    assert model_taps("resnet8")["embedding"] == "fc:in"
    assert type(model_taps("resnet8")) is dict
