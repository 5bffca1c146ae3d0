"""Whatever a user may type or a disk may do to a file: one clear message, or a right result."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from test_run import configured

from kd.cli import explained, written_out
from kd.config import CONF_DIR, register_models
from kd.errors import UserError
from kd.reports.runs import find_runs
from kd.results import read_result
from kd.run import run
from kd.teachers.checkpoint import read_file

CASES = 500
LIMIT = 60  # seconds that a case may take
TINY = (
    *("teacher=resnet8", "student=resnet8", "student.net.width=0.25", "trainer=cpu"),
    *("trainer.enable_progress_bar=false", "logger=none", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "teacher.training.trainer.max_epochs=1"),
    *("teacher.training.trainer.limit_train_batches=2", "data.batch_size=64"),
)
# What would take long where it is understood, or writes elsewhere
LEFT_OUT = ("max_epochs", "paths", "limit_", "accelerator", "compile")
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


def leaves(node: DictConfig, place: str = "") -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and len(child):
            yield from leaves(child, f"{place}{key}.")
        else:
            yield f"{place}{key}"


def keys() -> list[str]:
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=["paths.run=x"])
    return [key for key in leaves(cfg) if not any(part in key for part in LEFT_OUT)]


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AssertionError(f"it hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def understood(overrides: list[str], folder: Path, output: Path) -> str:
    """Run as the command line does: the message of a mistake, or `completed`."""
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    try:
        with within(LIMIT), initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose("train", overrides=[*TINY, *paths, *map(written_out, overrides)])
            result = run(cfg, folder)
    except AssertionError:
        raise
    except Exception as error:
        if (message := explained(error)) is None:
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
    places, seen = keys(), {"completed": 0, "refused": 0}
    cases = st.composite(overrides)(places)

    @settings(
        max_examples=CASES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(cases)
    def attempt(case: list[str]) -> None:
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        seen["completed" if understood(case, folder, output) == "completed" else "refused"] += 1

    attempt()
    print(seen)
    assert seen["completed"] > 50
    assert seen["refused"] > 50


# Files: a bit anywhere in them is turned.


def flipped(content: bytes, place: int, bit: int) -> bytes:
    spoiled = bytearray(content)
    spoiled[place % len(content)] ^= 1 << bit
    return bytes(spoiled)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run, with its output root in it."""
    folder = tmp_path_factory.mktemp("finished")
    small = ("trainer.limit_train_batches=2", "trainer.max_epochs=1", "data/view=none")
    run(configured(folder, folder, "method=at", *small), folder)
    return folder


def same(one: object, other: object) -> bool:
    if torch.is_tensor(one):
        return torch.is_tensor(other) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def read_result_or_refuse(file: Path) -> dict:
    result = read_result(file.parent)
    if result is None:
        raise UserError("not believed")
    *content, _ = result.items()  # without the checksum, of which the name may be what is flipped
    return dict(content)


def read_report(file: Path) -> list[str]:
    found = find_runs([file.parent])
    if found.unfinished:
        raise UserError(found.unfinished[0].why)
    return [str(found.runs[0].result["test/acc"])]


KINDS = {
    "checkpoint": ("checkpoints/last.ckpt", read_file),
    "weights": ("student.safetensors", read_file),
    "result": ("result.json", read_result_or_refuse),
    "result in a report": ("result.json", read_report),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_noticed(kind, finished, tmp_path):
    name, read = KINDS[kind]
    file = tmp_path / Path(name).name
    content = (finished / name).read_bytes()
    file.write_bytes(content)
    right, noticed = read(file), []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None,
              phases=[Phase.generate])  # fmt: skip
    @given(st.integers(0, len(content) - 1), st.integers(0, 7))
    def attempt(place: int, bit: int) -> None:
        file.write_bytes(flipped(content, place, bit))
        with within(LIMIT):
            try:
                found = read(file)
            except UserError:
                noticed.append(place)
            else:
                assert same(found, right), f"bit {bit} of byte {place} was not noticed"

    attempt()
    assert len(noticed) > 100


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_noticed(kind, length, finished, tmp_path):
    name, read = KINDS[kind]
    content = (finished / name).read_bytes()
    file = tmp_path / Path(name).name
    file.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    with pytest.raises(UserError):
        read(file)
