"""Settings of a recorded config: flat names, and what is left out."""

import pytest
from run_folders import CONFIG

from kd.reports.settings import read_settings


def test_settings_that_change_no_number_are_left_out():
    text = CONFIG.format(
        **{"data": "d", "teacher": "t", "student": "s", "width": 1, "method": "kd", "seed": 3},
        **{"knobs": "  alpha: 0.5", "epochs": 2, "bar": True},
    )
    settings = read_settings(text, teacherless=False)
    assert settings["method.alpha"] == 0.5
    assert settings["data.seed"] == "${seed}"
    assert settings["data.mean"] == "[0.3]"
    assert settings["teacher.training.seed"] == 0
    assert not {"seed", "paths.run", "trainer.enable_progress_bar"} & settings.keys()
    assert "teacher.training.seed" not in read_settings(text, teacherless=True)


@pytest.mark.parametrize(("text", "message"), [("a: [", "no YAML"), ("a", "not a mapping")])
def test_a_text_that_is_no_config_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_settings(text, teacherless=False)
