"""Random overrides: each ends in one clear message or in a correct result.

KD_OVERRIDES=1000 in the environment gives another number of command lines.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import LIMIT, unresolved, within

from kd.config.compose import CONF_DIR, register_models
from kd.config.messages import user_message
from kd.config.overrides import expand_shorthand
from kd.training.run import run

CASES = int(os.environ.get("KD_OVERRIDES", "150"))
TINY = (
    *("teacher=resnet8", "student=resnet8", "student.net.width=0.25", "trainer=cpu"),
    *("trainer.enable_progress_bar=false", "logger=none", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "teacher.training.trainer.max_epochs=1"),
    *("teacher.training.trainer.limit_train_batches=2", "data.batch_size=64"),
)
# Keys with which a valid value may take too much time or memory, or write elsewhere
LEFT_OUT = ("max_epochs", "paths", "limit_", "accelerator", "compile", "width", "devices")
GROUPS = ("method", "mode", "student", "teacher", "optimizer", "scheduler", "data", "data/view")

ODD = st.sampled_from(
    [
        *("", "null", "true", "false", "-1", "0", "1", "2", "0.5", "-0.0", "1e308", "-1e308"),
        *("nan", "inf", "-inf", "1e-320", "99999999999999999999", "abc", "ABC", "'1'", "[]"),
        *("[1,2]", "[a]", "[[1]]", "{}", "{a:1}", "{_target_:os.system}", "${seed}", "${nothing}"),
        *("???", "../..", "/dev/null", "'$(ls)'", "'a b'", "ä", "\\n", "none", "None", "1_000"),
    ]
)
NUMBERS = st.one_of(st.integers(-3, 300).map(str), st.floats(-3, 300, allow_nan=False).map(repr))


def leaves(node: dict, place: str = "") -> Iterator[str]:
    for key, child in node.items():
        if isinstance(child, dict) and child:
            yield from leaves(child, f"{place}{key}.")
        else:
            yield f"{place}{key}"


def keys() -> list[str]:
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=["paths.run=x"])
    return [key for key in leaves(unresolved(cfg)) if not any(part in key for part in LEFT_OUT)]


def outcome(overrides: list[str], folder: Path, output: Path) -> str:
    """Run as the command line does, and return the message of a mistake or `completed`."""
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    try:
        with within(LIMIT), initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose("train", overrides=[*TINY, *paths, *map(expand_shorthand, overrides)])
            result = run(cfg, folder)
    except AssertionError:
        raise
    except Exception as error:
        if (message := user_message(error)) is None:
            raise AssertionError(f"a traceback for {overrides}") from error
        return message
    assert result["status"] == "completed"
    assert 0 <= result["test/acc"] <= 1
    written = json.loads((folder / "result.json").read_text())
    assert written["test/acc"] == result["test/acc"]
    return "completed"


def overrides(draw: st.DrawFn, places: list[str]) -> list[str]:
    place = draw(st.sampled_from(places))
    sign = draw(st.sampled_from(["", "", "", "", "+", "~", "++"]))
    value = draw(st.one_of(ODD, NUMBERS))
    line = f"~{place}" if sign == "~" else f"{sign}{place}={value}"
    if not draw(st.booleans()):
        return [line]
    group = draw(st.sampled_from(GROUPS))
    names = [path.stem for path in (CONF_DIR / group).glob("*.yaml")] or ["resnet8", "vgg8"]
    return [f"{group}={draw(st.sampled_from([*names, 'nothing']))}", line]


@pytest.mark.slow
def test_no_override_ends_in_a_traceback(output, tmp_path):
    places, seen, wrong = keys(), {"completed": 0, "refused": 0}, []
    cases = st.composite(overrides)(places)

    @settings(
        max_examples=CASES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(cases)
    def attempt(case: list[str]) -> None:
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            found = outcome(case, folder, output)
        except AssertionError as error:
            cause = error.__cause__
            wrong.append(f"{case}: {error}: {type(cause).__name__}: {cause}"[:300])
        else:
            seen["completed" if found == "completed" else "refused"] += 1

    attempt()
    assert not wrong, "\n".join(wrong)
    assert seen["completed"] > CASES // 10
    assert seen["refused"] > CASES // 10
