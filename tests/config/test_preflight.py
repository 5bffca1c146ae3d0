"""A command line is checked as a whole: all mistakes at once, nothing written, nothing executed."""

import sys

import hydra
import pytest

from kd.config.command import command
from kd.validation import config_problems


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """Start a command up to the point where Hydra would run it.

    Returns the message of its mistakes, or the command line that Hydra gets.
    """
    monkeypatch.chdir(tmp_path)

    def accept(path, primary, version_base):
        return lambda job: lambda: None

    def start(*words: str, name: str = "train", **aliases: str) -> str:
        monkeypatch.setattr(hydra, "main", accept)
        monkeypatch.setattr(sys, "argv", [f"kd.{name}", *words])
        check = config_problems if name in ("train", "chain", "search") else None
        try:
            command(name, check=check, **aliases)(lambda cfg: None)()
        except SystemExit as end:
            assert not [*tmp_path.iterdir()]
            return str(end.code)
        return " ".join(sys.argv[1:])

    return start


def test_misspelt_keys_are_all_reported_with_the_nearest(outcome):
    words = ("method.temprature=3", "method.alpa=.2", "optimizer.lrr=1", "trainer.max_epoch=3")
    message = outcome(*words)
    assert message.startswith("error: 4 mistakes")
    for name in ("method.temperature", "method.alpha", "optimizer.lr", "trainer.max_epochs"):
        assert f"did you mean '{name}'" in message


def test_mistakes_of_all_kinds_are_in_one_message(outcome):
    message = outcome(
        "student=resnet21", "data=minst", "optimizer.lrr=1", "trainer.max_epochs=0",
        "method.alpha=3", "paths.cache=[x]", "+nonsense.key=1", "--nope=1",
    )  # fmt: skip
    for text in (
        *("student=resnet21: .*", "'resnet20'", "'mnist'", "'optimizer.lr'", "--nope: there is no"),
        *("max_epochs=0: must be", "method.alpha=3: must be", "paths.cache=", "nonsense: nothing"),
    ):
        assert text.removesuffix(": .*") in message


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("lr=0.1", "optimizer.lr"), ("epochs=3", "trainer.max_epochs"), ("T=3", "temperature")),
        *(("batch_size=2", "data.batch_size"), ("gpu=1", "trainer=gpu"), ("dataset=x", "data=…")),
        *(("optimiser.lr=1", "optimizer.lr"), ("model=resnet8", "student=resnet8")),
        *(("model=mynet", "student=mynet"), ("resnet8", "student=resnet8")),
        *(("method=KD", "'kd'"), ("student=ResNet-8", "'resnet8'"), ("scheduler=cos", "'cosine'")),
        *((f"+{x}", "leave the + out") for x in ("trainer=gpu", "hydra/launcher=joblib")),
        *(("teacher.cache=offf", "teacher.cache"), ("data/second=strong", "+data/second=strong")),
    ],
)
def test_the_nearest_name_is_offered(word, meant, outcome):
    assert meant in outcome(word)


@pytest.mark.parametrize(
    "word",
    [
        *("+nonsense.key=1", "++foo=1", "+method.temperatur=3", "+teacher.cache.foo=1"),
        *("+teacher.training.seeds=1", "+paths.runs=x", "+hydra.foo=1", "+mode.foo=1"),
        *("+student.foo=1", "+checkpoint.foo=1", "+teacher.training.method.foo=1"),
    ],
)
def test_a_key_that_nothing_reads_is_a_mistake(word, outcome):
    assert outcome(word).startswith("error: ")


@pytest.mark.parametrize(
    "word",
    [
        *("+trainer.max_steps=7", "+method.weights.soft2=1", "~callbacks.divergence"),
        *("experiment=dml", "data=cifar100", "mode=online", "logger=[csv,tensorboard]"),
        *("optimizer={lr: 0.2}", "schedule@method.schedules.alpha=cosine", "teacher=ensemble"),
        *("data.name=pets", "data.name=digits"),
    ],
)
def test_keys_that_something_reads_are_accepted(word, outcome):
    assert "error" not in outcome(word)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=${seed}", "seed="),
        ("seed=${oc.env:NOPE_OF_A_TEST}", "Environment variable 'NOPE_OF_A_TEST' not found"),
        ("student=[1]", "student=[1]: a list, where one option is chosen"),
        ("method=[kd,at]", "a sweep over them is -m method=kd,at"),
        ("data=./pets", "a folder of images is data=image_folder data.root=./pets"),
        ("recipe=[1]", "recipe=[1]: a list"),
        ("paths.run=1e400", "paths.run=inf: must be a path"),
        ("paths.output=", "paths.output: the path is empty"),
        ("resume=", "resume: the path is empty"),
        ("data.name=cifar10", "choose it with data=cifar10"),
        ("teacher.name=resnet8", "choose it with teacher=resnet8"),
        ("data={mean: {a: 1}}", "data, mean: {'a': 1} is merged into"),
        ("student=" + "[" * 3000 + "]" * 3000, "brackets are nested 3000 deep"),
        ("seed=1\0", r"seed: its text has the character '\x00'"),
        ("~seed", "~seed: it is needed"),
        ("~method", "~method: it is needed"),
        ("seed=0,1", "several values are a sweep, which needs -m"),
        ("seed=range(0,3,0)", "must not be zero"),
        ("seed=range(0,1000000000)", "more than 10000 values"),
        ("~hydra.verbose", "~hydra.verbose: it is needed"),
        ("seed={a: 1}", "must be one value"),
        ("teacher.training=3", "must be a mapping"),
        ("data.mean={a: 1}", "must be a list"),
        ("data.mean=[1", "brackets or quotes do not match"),
        ("a..b=1", "'a..b' is no key"),
        ("–m", "dash of typography"),
        ("--resolve", "goes with --cfg"),
        ("--shell-completion", "add install=bash"),
        ("--experimental-rerun=x", "execute"),
        ("--config-name=trian", "did you mean 'train'"),
        ("--config-path=/", "holds no train.yaml"),
        ("--config-dir=/nowhere", "no such folder"),
        ("--cfg=jobs", "did you mean 'job'"),
        ("hydra.searchpath=[file:///nowhere]", "/nowhere is no folder"),
        ("data=image_folder", "data.root has no value"),
    ],
)
@pytest.mark.slow
def test_odd_values_get_a_message(word, message, outcome):
    found = outcome(word)
    assert found.startswith("error: ")
    assert message in found


def test_flags_may_follow_overrides(outcome):
    assert outcome("method=kd", "--cfg", "job", "seed=1") == "--cfg=job method=kd seed=1"


def test_a_path_with_an_equals_sign_needs_no_quotes(outcome, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/a/test")
    given = outcome("student.checkpoint=/x/epoch=0-step=20.ckpt", "resume=~/run #1")
    assert given == ("student.checkpoint='/x/epoch=0-step=20.ckpt' resume='/home/of/a/test/run #1'")


def test_a_sweep_with_one_wrong_job_starts_none(outcome):
    assert "method=nope: there is no such option" in outcome("-m", "method=kd,nope", "seed=0,1")
    assert "seed=-1: must be" in outcome("-m", "method=kd,at", "seed=0,-1")
    assert "has no 'initial'" in outcome("-m", "method=kd,fitnet", "method.initial=0.4")


def test_keys_are_named_as_they_are_given(outcome):
    message = outcome("zzzzz=1", name="compress", search="walk", method="taught_by")
    assert "search" in message
    assert "walk" not in message
    assert "did you mean 'sweep'" in outcome("swep=1", name="report", sweep="folder")


@pytest.mark.parametrize("name", ["report", "cache", "predict", "evaluate", "export", "compress"])
def test_other_commands_are_checked_alike(name, outcome):
    assert "nothing reads this key" in outcome("+foo=1", name=name)
    assert "there is no 'foo'" in outcome("foo=1", name=name)
