"""Options of `kd.report`: what they mean, and messages for wrong ones."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.config.compose import CONF_DIR, plain
from kd.errors import UserError
from kd.reports.options import FORMS, Options, read_options
from kd.reports.write import Forms


def options(*overrides: str) -> Options:
    """The options that a command line of these words asks for."""
    shipped = OmegaConf.load(CONF_DIR / "report.yaml")
    return read_options(plain(OmegaConf.merge(shipped, OmegaConf.from_dotlist([*overrides]))))


def test_the_shipped_options_are_valid():
    assert options("folder=A") == Options(
        [Path("A")], Path("A/report"), None, None, 10000, 0,
        {"figures": True, "matrix": False, "latex": False, "checklist": False},
    )  # fmt: skip
    assert set(FORMS) == set(Forms._fields)


def test_options_are_converted():
    found = options("folders=[2024,B]", "output=x", "detect=0.2", "matrix=true", "baseline=kd")
    assert found.folders == [Path("2024"), Path("B")]
    assert found.output == Path("x")
    assert found.detect == pytest.approx(0.002)
    assert found.forms["matrix"] is True
    assert found.baseline == "kd"


NO_POINTS = "must be a difference in points, above 0 and up to 100, as 0.2"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bootstrap.seed=abc", "must be a whole number ≥ 0"),
        ("bootstrap.seed=-1", "must be a whole number ≥ 0"),
        ("bootstrap.seed=true", "must be a whole number ≥ 0"),
        ("bootstrap.samples=1", "must be a whole number from 100 to 1000000"),
        ("bootstrap.samples=2000000", "must be a whole number from 100 to 1000000"),
        ("bootstrap.samples=500.0", "must be a whole number from 100 to 1000000"),
        ("bootstrap=5", "has the keys samples and seed, as bootstrap.samples=10000"),
        ("folders=5", r"must be a list, as \[A,B\]"),
        ("folders=ok", r"must be a list, as \[A,B\]"),
        ("folders=null", r"must be a list, as \[A,B\]"),
        ("output=[a]", "must be a folder"),
        ("baseline=[kd]", "must be a method, or settings"),
        ("detect=true", NO_POINTS),
        ("detect=abc", NO_POINTS),
        ("detect=.nan", NO_POINTS),
        ("detect=101", NO_POINTS),
        ("matrix=maybe", "must be true or false"),
        ("checklist=3", "must be true or false"),
        ("figures=flase", "must be true or false"),
        ("latex=[1]", "must be true or false"),
        ("latex=null", "must be true or false"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_must_be(word, message):
    with pytest.raises(UserError, match=message) as raised:
        options("folder=A", word)
    given = word.replace(".nan", "nan").replace("[a]", "['a']").replace("[kd]", "['kd']")
    assert str(raised.value).startswith(f"{given}: ")


def test_all_mistakes_are_named_at_once():
    with pytest.raises(UserError, match="matrix=maybe: must be true or false\n  latex=3: must"):
        options("folder=A", "matrix=maybe", "latex=3")
    with pytest.raises(UserError, match=r"^sweep=\['A'\]: must be one folder; of several"):
        options("folder=[A]")
