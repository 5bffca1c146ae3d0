"""The recorded config of a run, and the config of a run that is resumed from it."""

import re
import shlex
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
from commands import ROOT
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from lightning import Callback
from omegaconf import OmegaConf, open_dict
from support import composed, configured, present, unresolved

import kd.train
from kd.config.compose import CONF_DIR
from kd.config.identity import settings_hash
from kd.config.messages import user_message
from kd.config.record import (
    all_overrides,
    read_record,
    register_resumed,
    resume_command,
    start_point,
    write_record,
)
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder
from kd.training.run import run

SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5")


def resumed(folder: Path, *overrides: str):
    """The config, Hydra's part included, that `resume=folder` and the overrides give."""
    words = [f"resume={folder}", *overrides]
    name = register_resumed(words)
    assert name is not None
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(name, words, return_hydra_config=True)


@pytest.fixture
def record(tmp_path) -> Path:
    """The folder of a run of FitNets with seed 1."""
    cfg = composed("method=fitnet", "method.initial=0.4", "seed=1", "paths.run=elsewhere")
    write_record(tmp_path, cfg, ["method=fitnet", "seed=1"])
    return tmp_path


def test_a_resumed_run_has_the_recorded_config_and_the_changes(record):
    cfg = resumed(record)
    assert (cfg.method.name, cfg.method.initial, cfg.seed) == ("fitnet", 0.4, 1)
    cfg = resumed(record, "seed=2", "method.initial=0.5", "+trainer.fast_dev_run=true")
    assert (cfg.method.name, cfg.method.initial, cfg.data.seed) == ("fitnet", 0.5, 2)
    assert cfg.trainer.fast_dev_run is True
    assert cfg.resume == str(record)


def test_the_experiment_is_the_same_one(record):
    """A config that was written and read again has the same hash, whatever kind its values are."""
    odd = ("+method.note='1e-3'", "optimizer.lr=1e-20", "data.mean=null", "student.net.width=1.0")
    cfg = composed(*odd, "method=kd")
    write_record(record, cfg)
    again = resumed(record)
    del again.hydra
    again.paths.run = "elsewhere"
    assert settings_hash(again) == settings_hash(cfg)


def test_a_resumed_run_writes_to_its_folder_unless_told_otherwise(record):
    assert resumed(record).hydra.run.dir == str(record)
    assert resumed(record, "hydra.run.dir=other").hydra.run.dir == "other"
    cfg = unresolved(resumed(record))
    assert cfg["paths"]["run"] == "${hydra:runtime.output_dir}"
    assert resumed(record).hydra.output_subdir is None
    assert "sweeps" in unresolved(resumed(record))["hydra"]["sweep"]["dir"]


def test_the_overrides_of_all_commands_are_recorded(record):
    hydra_part = resumed(record, "seed=2").hydra
    assert all_overrides(hydra_part, str(record)) == ["method=fitnet", "seed=1", "seed=2"]
    for damaged in ("a: [", "3", "", "- 3", "{a: ${"):
        RunFolder(record).overrides.write_text(damaged)
        assert all_overrides(hydra_part, str(record))[-1] == "seed=2"


def test_a_misspelt_key_names_the_nearest(record):
    with pytest.raises(HydraException) as error:
        resumed(record, "method.inital=0.5")
    assert present(user_message(error.value)).startswith(
        "method.inital: method=fitnet has no 'inital'"
    )
    with pytest.raises(HydraException) as error:
        resumed(record, "trainer.max_epoch=5")
    assert "did you mean 'trainer.max_epochs'" in present(user_message(error.value))


@pytest.mark.parametrize(
    "option",
    [
        *("method=kd", "+method=kd", "student=vgg8", "~optimizer", "data/view=none"),
        *("sweep=seeds", "schedule@method.schedules.alpha=cosine", "teacher@x=resnet8"),
    ],
)
def test_another_option_of_a_group_is_refused(option, record):
    with pytest.raises(UserError, match=r"keeps the options .* change single settings"):
        register_resumed([f"resume={record}", option])


def test_launchers_and_single_settings_are_no_options_of_groups(record):
    assert register_resumed([f"resume={record}", "-m", "hydra/launcher=basic", "seed=0,1"])
    assert register_resumed([f"resume={record}", "optimizer={lr: 0.1}"])


def test_settings_of_a_newer_version_take_their_defaults(record):
    cfg = read_record(record)
    del cfg["keep_epochs"]
    write_record(record, cfg)
    assert resumed(record).keep_epochs is False


def test_what_is_no_folder_of_a_run_is_composed_as_usual(tmp_path):
    for words in (
        ["seed=1"],
        ["resume=nowhere"],
        [f"resume={tmp_path / 'last.ckpt'}"],
        [f"resume={tmp_path},{tmp_path}"],  # of a sweep
        [f"resume={tmp_path}", "method=kd"],  # a folder that holds checkpoints only
    ):
        assert register_resumed(words) is None
    with pytest.raises(UserError, match=r"holds no \.hydra/config\.yaml; name a checkpoint"):
        register_resumed([f"resume={tmp_path}"])


# Records of strangers, and damaged ones


@pytest.mark.parametrize("content", [b"a: [", b"[]", b"", b"\0", b"text", b"a: ${", b"\xff"])
def test_a_damaged_record_is_named(content, record):
    (record / ".hydra" / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml (is damaged|is no text|cannot be read)"):
        register_resumed([f"resume={record}"])


@pytest.mark.parametrize(
    "content",
    [
        "hydra: {callbacks: {x: {_target_: os.system}}}",
        "hydra: {job_logging: {handlers: {x: {(): os.system}}}}",
        "hydra: {searchpath: ['file:///theirs']}",
        "defaults: [{override hydra/launcher: theirs}]",
    ],
)
def test_a_record_cannot_configure_hydra(content, record):
    """Hydra calls what its own part names, before any check of ours."""
    with (record / ".hydra" / "config.yaml").open("a") as file:
        file.write(content)
    with pytest.raises(UserError, match="should be the config of a run, without Hydra's own"):
        register_resumed([f"resume={record}"])


def test_other_files_of_the_record_change_nothing(record):
    hostile = "hydra: {callbacks: {x: {_target_: os.system}}, searchpath: ['file:///theirs']}"
    (record / ".hydra" / "hydra.yaml").write_text(hostile)
    words = ["hydra.callbacks.x={_target_:os.system}", "seed=7", "--config-dir=/theirs"]
    (record / ".hydra" / "overrides.yaml").write_text("".join(f"- {word!r}\n" for word in words))
    cfg = resumed(record)
    assert (cfg.seed, cfg.hydra.searchpath) == (1, [])
    assert cfg.hydra.callbacks == OmegaConf.load(CONF_DIR / "train.yaml").hydra.callbacks


def test_a_class_of_ones_own_is_named_again(record):
    """The line of an interrupted run has it; a message about a stranger's has no line to paste."""
    cfg = read_record(record)
    cfg.optimizer._target_, cfg.data.root = "mypackage.Mine", "/nowhere here"
    write_record(record, cfg)
    words = ["optimizer._target_=mypackage.Mine", "data.root='/nowhere here'"]
    command = shlex.join(["python", "-m", "kd.train", f"resume={record}", *words])
    assert resume_command(record) == command
    with pytest.raises(UserError, match="repeat the overrides that set them") as refused:
        resumed(record)
    assert "python -m" not in str(refused.value)
    with pytest.raises(UserError, match=rf"{re.escape(f'resume={record}')} 'data\.root=.*here'"):
        resumed(record, words[0])
    again = resumed(record, *words)
    assert again.optimizer._target_ == "mypackage.Mine"
    assert again.data.root == "/nowhere here"
    with pytest.raises(UserError, match=r"data\.root"):
        resumed(record, words[0])


def test_a_config_folder_makes_its_names_ones_own(record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "optimizer").mkdir()
    (folder / "optimizer" / "mine.yaml").write_text("_target_: mypackage.Mine\nlr: 0.1")
    cfg = read_record(record)
    cfg.optimizer._target_ = "mypackage.Mine"
    write_record(record, cfg)
    assert register_resumed([f"--config-dir={folder}", f"resume={record}"])
    assert register_resumed([f"resume={record}", "--config-dir", str(folder)])
    with pytest.raises(UserError, match="neither conf/ nor a --config-dir names it"):
        register_resumed([f"resume={record}"])


def test_a_refused_part_may_be_deleted_or_replaced(record):
    cfg = read_record(record)
    with open_dict(cfg):
        cfg.callbacks.mine = {"_target_": "mypackage.Mine", "folder": "/somewhere"}
    write_record(record, cfg)
    assert "mine" not in resumed(record, "~callbacks.mine").callbacks
    assert resumed(record, "callbacks.mine=null").callbacks.mine is None
    for part in ("callbacks.mine={folder: x}", "callbacks.mine.folder=x", "callbacks.mine_=1"):
        with pytest.raises(UserError, match=r"callbacks\.mine\._target_=mypackage"):
            resumed(record, part)


# Where a resumed run starts


def test_a_run_killed_before_its_first_checkpoint_starts_as_it_did_first(record, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "last.ckpt"
    for first in (None, str(other)):
        cfg = read_record(record)
        cfg.resume = first
        write_record(record, cfg)
        assert start_point(resumed(record), record) == first
        assert start_point(resumed(record), other.parent) == str(record)
    cfg.resume = str(record)  # of a second start, after which the checkpoints were deleted
    write_record(record, cfg)
    assert start_point(resumed(record), record) is None
    RunFolder(record).last.parent.mkdir()
    RunFolder(record).last.touch()
    assert start_point(resumed(record), record) == str(record)


def test_a_checkpoint_that_is_a_link_to_itself_is_left_to_the_run(tmp_path):
    """It refuses a file that cannot be read; `Path.resolve` raises a RuntimeError for it."""
    (loop := tmp_path / "last.ckpt").symlink_to("last.ckpt")
    assert start_point(composed(f"resume={loop}"), tmp_path / "run") == str(loop)


# Commands


@pytest.mark.slow
def test_options_of_ones_own_folder_are_in_the_record(train, tmp_path):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    shutil.copy(ROOT / "conf" / "method" / "kd.yaml", tmp_path / "conf" / "method" / "mine.yaml")
    run_in = f"hydra.run.dir={tmp_path / 'run'}"
    answer = train(f"--config-dir={tmp_path / 'conf'}", "method=mine", *SMALL, run_in)
    assert answer.returncode == 0, answer.stderr
    shutil.rmtree(tmp_path / "conf")
    again = train(f"resume={tmp_path / 'run'}", tiny=False)
    assert again.returncode == 0, again.stderr
    assert "holds this run, finished" in again.stdout


@pytest.mark.slow
def test_a_refused_command_leaves_the_record(train, tmp_path):
    run_in, files = f"hydra.run.dir={tmp_path}", RunFolder(tmp_path)
    assert train(*SMALL, "method=ce", run_in).returncode == 0
    names = (files.config, files.overrides, files.result)
    before = [file.read_bytes() for file in names]
    refused = train(*SMALL, "method=ce", "seed=3", run_in)
    assert refused.returncode == 1
    # one message, and nothing of Hydra's before it
    assert refused.stderr.startswith(f"error: {tmp_path} holds a finished run of another")
    for wrong in ("optimizer.lr=-1", "method=kd", "optimizer.lrr=1"):
        answer = train(wrong, f"resume={tmp_path}", tiny=False)
        assert answer.returncode == 1
        assert "Traceback" not in answer.stderr
    assert [file.read_bytes() for file in names] == before


@pytest.mark.slow
def test_a_sweep_resumes_one_run_in_several_ways(train, tmp_path):
    """Every job has the recorded config, its own change, and the first run's last checkpoint."""
    first, sweep = tmp_path / "first", tmp_path / "sweep"
    assert train(*SMALL, "method=ce", f"hydra.run.dir={first}").returncode == 0
    answer = train(
        "-m", f"resume={first}", "trainer.max_epochs=2,3", f"hydra.sweep.dir={sweep}", tiny=False
    )
    assert answer.returncode == 0, answer.stderr
    assert sorted(
        present(read_result(job))["epochs"] for job in sweep.iterdir() if job.is_dir()
    ) == [2, 3]
    assert present(read_result(first))["epochs"] == 1
    # A job is resumed alone, and a setting that was added once may be given again.
    job = next(path for path in sweep.iterdir() if path.is_dir())
    for expected in ("validation accuracy", "holds this run, finished"):
        answer = train(
            f"resume={job}", "trainer.max_epochs=4", "+trainer.max_time=1:00:00:00", tiny=False
        )
        assert answer.returncode == 0, answer.stderr
        assert expected in answer.stdout
    words = RunFolder(job).overrides.read_text()
    assert [words.count(word) for word in ("method=ce", "max_epochs", "max_time")] == [1, 2, 1]


# A finished run, and another one from its state


@pytest.fixture
def finished(output, tmp_path):
    """A finished run's folder, and a function that configures another run in it."""

    def configure(*overrides):
        return configured(tmp_path, output, "method=ce", "trainer.max_epochs=1", *overrides)

    run(configure(), tmp_path, overrides=["method=ce"])
    return tmp_path, configure


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("student.checkpoint=nowhere", r"student\.checkpoint=None instead of nowhere"),
        ("trainer.devices=300", r"trainer\.devices=300"),
    ],
)
def test_a_late_mistake_costs_no_finished_run(setting, message, finished):
    folder, configure = finished
    files = RunFolder(folder)
    names = (files.result, files.config, files.overrides, files.last)
    before = [file.read_bytes() for file in names]
    wrong = configure(f"resume={folder}", "trainer.max_epochs=2", setting)
    with pytest.raises(UserError, match=message):
        run(wrong, folder, overrides=[setting])
    assert [file.read_bytes() for file in names] == before


class ReadResult(Callback):
    """Read the result during training: a process that is killed now leaves it behind."""

    seen: ClassVar[list] = []

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.append(read_result(self.folder))


def test_a_finished_run_that_is_resumed_counts_as_unfinished(finished):
    folder, configure = finished
    watch = f"+callbacks.watch={{_target_: test_record.ReadResult, folder: '{folder}'}}"
    cfg = configure(f"resume={folder}", "trainer.max_epochs=2", watch)
    assert run(cfg, folder, overrides=["trainer.max_epochs=2"])["epochs"] == 2
    (during,) = ReadResult.seen
    assert (during["status"], during["error"]) == ("failed", "not finished")
    assert read_record(folder).trainer.max_epochs == 2


def test_another_runs_folder_is_not_overwritten(finished, output, tmp_path_factory):
    folder, configure = finished
    other = tmp_path_factory.mktemp("other")
    cfg = configured(other, output, "method=ce", "trainer.max_epochs=1", "seed=1")
    run(cfg, other)
    foreign = configure(f"resume={RunFolder(other).last}", "seed=2")
    with pytest.raises(UserError, match="holds a finished run of another configuration"):
        kd.train.finished(foreign, folder)
    best = RunFolder(folder).best.read_bytes()
    with pytest.raises(UserError, match=r"last\.ckpt belongs to a run with another configuration"):
        run(foreign, folder)
    assert RunFolder(folder).best.read_bytes() == best
    assert present(read_result(folder))["status"] == "completed"
