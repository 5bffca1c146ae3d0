"""Short forms of overrides, and the folders that flags name."""

from pathlib import Path

import pytest

from kd.config.overrides import config_dirs, expand_shorthand, override_key


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("teacher.cache=off", "teacher.cache.mode=off"),
        ("teacher.cache={mode: off}", "teacher.cache={mode: off}"),
        ("teacher.cache.dtype=float32", "teacher.cache.dtype=float32"),
        ("schedule@method.schedules.soft=grow", "+schedule@method.schedules.soft=grow"),
        ("sweep=outputs/a", "folder=outputs/a"),
        ("baseline=method=kd", "baseline='method=kd'"),
        ("baseline='method=kd'", "baseline='method=kd'"),
        ("baseline=kd", "baseline=kd"),
        ("--help", "--help"),
    ],
)
def test_short_forms_are_expanded(short, full):
    assert expand_shorthand(short, {"sweep": "folder"}) == full


@pytest.mark.parametrize(
    "override", ["seed=1", "+seed=1", "++seed=1", "~seed", "~seed=1", "seed@method.x=1"]
)
def test_the_key_of_an_override(override):
    assert override_key(override) == "seed"


def test_config_dirs_of_all_spellings():
    words = ["--config-dir=a", "seed=1", "--config-dir", "b", "-cd", "c", "-m"]
    assert sorted(config_dirs(words)) == [Path(name).resolve() for name in ("a", "b", "c")]
