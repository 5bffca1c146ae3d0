"""Chains: each stage teaches the next, what is finished is kept, and mistakes are named first."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback
from safetensors.torch import load_file

import kd.training.run
from kd.chains.plan import plan
from kd.chains.run import run_chain
from kd.config.compose import CONF_DIR, plain, register_models
from kd.errors import UserError
from kd.io.locks import exclusive_folder
from kd.io.tensors import safetensors_bytes
from kd.training.teacher import teacher_run

TINY = [
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=none", "data.batch_size=256"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=2"),
    *("teacher.training.trainer.max_epochs=2", "teacher.training.trainer.limit_train_batches=2"),
]
SMALL = ["student.net.width=0.25", "teacher.net.width=0.25"]


class StopIn(Callback):
    """Interrupt the stage of this folder's name behind the first epoch."""

    def __init__(self, stage: str, sigterm: bool) -> None:
        self.stage, self.sigterm = stage, sigterm

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if Path(trainer.default_root_dir).name == self.stage and trainer.global_step == 3:
            if not self.sigterm:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _signals():
    """Lightning switches Ctrl-C off for the rest of the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def chain(output):
    """`kd.chain` within this process."""

    def call(folder: Path, *overrides: str):
        register_models(CONF_DIR)
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return run_chain([f"paths.output={output}", *TINY, *overrides], folder)

    return call


def planned(*overrides: str):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return plan(["paths.output=out", *overrides], Path("chain"))


def configured(output: Path, folder: Path, *overrides: str):
    register_models(CONF_DIR)
    paths = [f"paths.output={output}", f"paths.run={folder}"]
    nets = ["teacher=resnet8", "student=resnet8", *SMALL]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *paths, *nets, *overrides])


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[k].equal(theirs[k]) for k in ours)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    """A run's trained weights, without the statistics of batch norm."""
    weights = load_file(folder / "student.safetensors")
    return {k: v for k, v in weights.items() if "running" not in k and "num_batches" not in k}


class Watched:
    """Notes the weights and the source of every teacher that a run is given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, dict[str, torch.Tensor]]] = []
        self.acquire = kd.training.run.acquire_teacher
        patch.setattr(kd.training.run, "acquire_teacher", self)

    def __call__(self, *arguments):
        acquired = self.acquire(*arguments)
        (net,) = acquired.teacher.nets
        weights = {key: value.detach().clone() for key, value in net.state_dict().items()}
        self.seen.append((acquired.source, weights))
        return acquired


@pytest.fixture(scope="module")
def finished(output, tmp_path_factory):
    """A chain of two stages, to be copied; its command line; the teachers it had."""
    folder = tmp_path_factory.mktemp("finished") / "chain"
    register_models(CONF_DIR)
    overrides = [f"paths.output={output}", *TINY, "stages=[resnet8,mlp800,resnet8]", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            run_chain(overrides, folder)
    return folder, overrides, watched.seen


# AcquiredTeacher


def test_every_student_teaches_the_next(finished, output):
    folder, _, teachers = finished
    found = json.loads((folder / "chain.json").read_text())
    folders = [folder / run["stage"] for run in found["runs"]]
    assert [folder.name for folder in folders] == ["1_mlp800", "2_resnet8"]
    registered = [
        path / "student.safetensors"
        for path in (output / "teachers").glob("resnet8-*")
        if json.loads((path / "result.json").read_text())["seed"] == 2
    ]
    files = [*registered, folders[0] / "student.safetensors"]
    for (_, weights), file in zip(teachers, files, strict=True):
        assert same(weights, load_file(file))
    assert [source for source, _ in teachers] == ["trained now", "checkpoint"]
    assert [run["seed"] for run in found["runs"]] == [1, 0]
    assert (found["status"], found["seed"]) == ("completed", 0)
    assert found["test/acc"] == found["runs"][-1]["test/acc"]
    seconds = sum(run["fit_seconds"] for run in found["runs"])
    assert found["fit_seconds"] == pytest.approx(seconds)
    for run in folders:
        for name in ("result.json", ".hydra/config.yaml", "checkpoints/best.ckpt"):
            assert (run / name).is_file()


def test_the_table_shows_every_stage(train, tmp_path):
    nets = ("stages=[resnet8,mlp800,resnet8]", *SMALL)
    answer = train(*nets, f"hydra.run.dir={tmp_path}", command="kd.chain")
    assert answer.returncode == 0, answer.stderr
    found = json.loads((tmp_path / "chain.json").read_text())
    rows = [line.split("│")[1:-1] for line in answer.stdout.split("\n") if line.startswith("│")]
    shown = [[cell.strip() for cell in row] for row in rows]
    assert [row[:3] for row in shown] == [
        ["0", "resnet8", "trained now"],
        ["1", "mlp800", "resnet8"],
        ["2", "resnet8", "mlp800"],
    ]
    accuracies = [found["runs"][0]["teacher/test/acc"], *(r["test/acc"] for r in found["runs"])]
    assert [row[3] for row in shown] == [f"{accuracy:.4f}" for accuracy in accuracies]


def test_a_stage_is_an_ordinary_run(finished, output, tmp_path):
    """From the same config, kd.train makes the same student."""
    stage = finished[0] / "1_mlp800"
    cfg = configured(output, tmp_path, "student=mlp800", "seed=1", "teacher.training.seed=2")
    result = kd.training.run.run(cfg, tmp_path)
    assert same(*(load_file(folder / "student.safetensors") for folder in (stage, tmp_path)))
    recorded = json.loads((stage / "result.json").read_text())
    assert result["config_hash"] == recorded["config_hash"]


# Going on


@pytest.mark.parametrize(("sigterm", "code"), [("false", "130"), ("true", "143")])
def test_a_chain_goes_on_where_it_was_interrupted(sigterm, code, chain, finished, tmp_path):
    whole, overrides, _ = finished
    stop = f"+callbacks.stop={{_target_: test_chain.StopIn, stage: 2_resnet8, sigterm: {sigterm}}}"
    with pytest.raises(SystemExit, match=code):
        chain(tmp_path, *overrides, stop)
    told = json.loads((tmp_path / "chain.json").read_text())
    assert (told["status"], told["error"]) == ("failed", "stage 2_resnet8: interrupted")
    first = tmp_path / "1_mlp800" / "result.json"
    before = first.stat().st_mtime_ns
    found = chain(tmp_path, *overrides)
    assert first.stat().st_mtime_ns == before
    assert found["status"] == "completed"
    assert found["test/nll"] == json.loads((whole / "chain.json").read_text())["test/nll"]
    files = (folder / "2_resnet8" / "student.safetensors" for folder in (whole, tmp_path))
    assert same(*map(load_file, files))


def trained(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


def again(chain, finished, *overrides: str):
    """Start the finished chain once more; return which stages were trained by that."""
    folder, original, _ = finished
    before = trained(folder)
    chain(folder, *original, *overrides)
    return [name for name, time in sorted(trained(folder).items()) if before.get(name) != time]


@pytest.fixture
def copied(finished):
    """The finished chain, whose folder is put back as it was: stages name one another by path."""
    folder = finished[0]
    shutil.copytree(folder, folder.parent / "kept")
    yield finished
    shutil.rmtree(folder)
    (folder.parent / "kept").rename(folder)


def test_a_finished_chain_is_not_run_again(chain, copied):
    assert again(chain, copied) == []
    assert again(chain, copied, "logger=csv", "doctor=true") == []  # which change no number


def test_a_stage_that_is_gone_is_trained_anew(chain, copied):
    folder = copied[0]
    expected = load_file(folder / "2_resnet8" / "student.safetensors")
    shutil.rmtree(folder / "2_resnet8" / "checkpoints")
    (folder / "2_resnet8" / "result.json").unlink()
    assert again(chain, copied) == ["2_resnet8"]
    assert same(expected, load_file(folder / "2_resnet8" / "student.safetensors"))


def test_a_student_of_an_outdated_teacher_is_trained_anew(chain, copied):
    file = copied[0] / "1_mlp800" / "student.safetensors"
    file.write_bytes(safetensors_bytes({key: 2 * value for key, value in load_file(file).items()}))
    assert again(chain, copied) == ["2_resnet8"]
    # and then the first comes back as it was
    shutil.rmtree(copied[0] / "1_mlp800")
    assert again(chain, copied) == ["1_mlp800", "2_resnet8"]


def test_a_stage_whose_weights_come_back_as_they_were_costs_no_other(chain, copied):
    folder = copied[0]
    (folder / "1_mlp800" / "student.safetensors").unlink()
    assert again(chain, copied) == ["1_mlp800"]
    shutil.rmtree(folder / "1_mlp800")
    assert again(chain, copied) == ["1_mlp800"]


def test_a_stage_of_which_nobody_knows_what_it_began_from_is_trained_anew(chain, copied):
    (copied[0] / "2_resnet8" / "basis.txt").write_bytes(b"\xff")
    assert again(chain, copied) == ["2_resnet8"]


def test_a_stage_that_cannot_go_on_costs_no_other(chain, copied):
    folder = copied[0]
    (folder / "1_mlp800" / "student.safetensors").unlink()
    (folder / "1_mlp800" / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"stage 1_mlp800: .*last.ckpt is not a plain file"):
        chain(folder, *copied[1])
    assert (folder / "2_resnet8" / "student.safetensors").is_file()


def test_another_configuration_needs_another_folder(chain, copied):
    folder = copied[0]
    message = r"stage 1_mlp800 in .*configured otherwise: optimizer.lr=0.05, not 0.3; choose"
    with pytest.raises(UserError, match=message):
        again(chain, copied, "optimizer.lr=0.3")
    message = "holds stages of another chain: 1_mlp800, 2_resnet8"
    with pytest.raises(UserError, match=message):
        again(chain, copied, "stages=[resnet8,resnet14]")
    assert json.loads((folder / "chain.json").read_text())["status"] == "completed"


def test_a_mistake_found_while_running_names_the_stage(chain, tmp_path):
    """Taps of the right name and the wrong shape are seen once the nets are there."""
    with pytest.raises(UserError, match=r"stage 1_mlp800: attention transfer needs maps"):
        chain(tmp_path, "method=at", "stages=[resnet8,mlp800,resnet8]")
    found = json.loads((tmp_path / "chain.json").read_text())
    assert found["error"].startswith("stage 1_mlp800: UserError: attention transfer")
    assert [run["status"] for run in found["runs"]] == ["failed", "missing"]


# Plans


def test_generations_start_from_different_weights():
    stages = planned("stages=[resnet8,resnet8,resnet8,resnet8]", "seed=0")
    assert [stage.cfg.seed for stage in stages] == [2, 1, 0]
    assert stages[0].cfg.teacher.training.seed == 3
    # Nobody starts like this teacher, which other chains and runs share.
    assert planned("stages=[resnet20,resnet8,resnet8]")[0].cfg.teacher.training.seed == 0
    assert planned("stages=[resnet8,resnet8]", "seed=1")[0].cfg.teacher.training.seed == 0


def test_settings_of_the_student_hold_for_all_students():
    first, second = planned(
        "stages=[resnet20,resnet14,resnet8]", "student.net.width=0.5", "method.alpha=0.3"
    )
    assert (first.cfg.teacher.net.width, first.cfg.student.net.width) == (1.0, 0.5)
    assert plain(second.cfg.teacher.net) == plain(first.cfg.student.net)
    assert second.cfg.teacher.checkpoint == str(Path("chain") / "1_resnet14")
    assert second.cfg.student.net.depth == 8
    assert second.cfg.method.weights.hard == pytest.approx(0.7)


def test_a_route_hands_on_the_student():
    first, second = planned("route=[3,7]", "teacher=resnet14")
    assert [stage.folder.name for stage in (first, second)] == ["1_epoch3", "2_epoch7"]
    assert (first.cfg.teacher.epoch, second.cfg.teacher.epoch) == (3, 7)
    assert (first.cfg.student.checkpoint, first.cfg.seed) == (None, 0)
    assert second.cfg.student.checkpoint == str(Path("chain") / "1_epoch3")
    assert second.cfg.seed == 1


MISTAKES = {
    "neither": ([], r"either stages=\[.*or route="),
    "both": (["stages=[resnet8,resnet8]", "route=[1,2]"], r"either stages=\[.*or route="),
    "one net": (["stages=[resnet8]"], r"stages=\['resnet8'\]: must be at least two names"),
    "no list": (["stages=resnet8"], "stages=resnet8: must be at least two names of models"),
    "unknown": (["stages=[resnet8,resnt20]"], "no model 'resnt20'; did you mean 'resnet20'"),
    "a student": (["stages=[resnet8,resnet8]", "student=vgg8"], "student=…: .*leave student out"),
    "a teacher": (["stages=[resnet8,resnet8]", "teacher=vgg8"], "teacher=…: .*leave teacher out"),
    "resume": (["stages=[resnet8,resnet8]", "resume=x"], "resume=x: a chain goes on by itself"),
    "labels": (["stages=[resnet8,resnet8]", "method=ce"], "method=ce asks no teacher"),
    "other net": (["stages=[resnet8,resnet8]", "method=simkd"], "method=simkd leaves another net"),
    "seed": (["stages=[resnet8,resnet8]", "seed=x"], "seed=x: must be a whole number"),
    "taps of a later stage": (
        ["stages=[resnet8,resnet8,mlp800]", "method=fitnet", "method.student_tap=stage3"],
        "stage 2_mlp800: .*no tap 'stage3' in student=mlp800",
    ),
    "one epoch": (["route=[5]"], r"route=\[5\]: must be at least two epochs"),
    "epochs that fall": (["route=[5,3]"], r"route=\[5,3\]: the epochs must grow"),
    "epoch zero": (["route=[0,3]"], r"route=\[0,3\]: epochs are whole numbers ≥ 1"),
    "epoch beyond": (["route=[5,41]"], "trains for teacher.training.trainer.max_epochs=40"),
    "epoch twice": (["route=[1,2]", "teacher.epoch=3"], "teacher.epoch=3: route=.* says which"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_before_anything_runs(name):
    overrides, message = MISTAKES[name]
    with pytest.raises(UserError, match=f"(?s){message}"):
        planned(*overrides)


# A student that starts from given weights


@pytest.mark.parametrize("file", ["", "checkpoints/best.ckpt", "student.safetensors"])
def test_a_student_starts_from_given_weights(file, finished, output, tmp_path):
    start = finished[0] / "2_resnet8"
    given = f"student.checkpoint={start / file}"
    kd.training.run.run(
        configured(output, tmp_path, given, "optimizer.lr=0", "method=ce"), tmp_path
    )
    assert same(parameters(tmp_path), parameters(start))


def test_the_teacher_does_not_start_from_the_students_weights(output, tmp_path):
    cfg = configured(output, tmp_path, "student.checkpoint=somewhere")
    assert "checkpoint" not in teacher_run(cfg, tmp_path).student


def test_weights_that_do_not_fit_are_named(finished, output, tmp_path):
    given = f"student.checkpoint={finished[0] / '1_mlp800'}"
    message = "(?s)student.checkpoint=.*does not fit the net; the folder holds a student=mlp800"
    with pytest.raises(UserError, match=message):
        kd.training.run.run(configured(output, tmp_path, given, "method=ce"), tmp_path)
    with pytest.raises(UserError, match=r"student.checkpoint=no/where: there is no such file"):
        kd.training.run.run(configured(output, tmp_path, "student.checkpoint=no/where"), tmp_path)
    with pytest.raises(UserError, match=r"student.checkpoint=3: must be a path"):
        kd.training.run.run(configured(output, tmp_path, "student.checkpoint=3"), tmp_path)


# The teacher's own past


def test_a_route_passes_the_teachers_epochs(chain, output, tmp_path, monkeypatch):
    """Each stage has that epoch's teacher and starts from the student before (lr 0 keeps it)."""
    nets = ["teacher=resnet14", "student=resnet8", *SMALL, "teacher.training.seed=7"]
    watched = Watched(monkeypatch)
    found = chain(tmp_path, "route=[1,2]", *nets)
    (kept,) = (output / "teachers").glob("resnet14-*/epochs")
    for (_, weights), epoch in zip(watched.seen, (1, 2), strict=True):
        assert same(weights, load_file(kept / f"epoch_000{epoch}.safetensors"))
    assert [run["teacher/epoch"] for run in found["runs"]] == [1, 2]
    assert [run["teacher/source"] for run in found["runs"]] == ["trained now", "reused"]
    still = tmp_path / "still"
    chain(still, "route=[1,2]", *nets, "optimizer.lr=0")
    assert same(parameters(still / "1_epoch1"), parameters(still / "2_epoch2"))


def test_a_chain_of_another_process_is_not_disturbed(chain, finished, tmp_path):
    with (
        exclusive_folder(tmp_path),
        pytest.raises(UserError, match="another process is at work in"),
    ):
        chain(tmp_path, *finished[1])
    assert not (tmp_path / "chain.json").exists()
