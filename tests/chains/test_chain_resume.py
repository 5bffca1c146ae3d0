"""Resuming of chains: finished stages are kept, outdated ones are trained again."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from chain_runs import SMALL, equal_weights, start_chain
from lightning import Callback
from safetensors.torch import load_file

from kd.chains.run import weights_hash
from kd.data.digits import Digits
from kd.errors import UserError
from kd.io.tensors import safetensors_bytes

STAGES = ["stages=[resnet8,mlp800,resnet8]", *SMALL]


class StopIn(Callback):
    """Interrupt the stage of this folder's name after its first epoch, once in each chain."""

    stopped: ClassVar[set[str]] = set()

    def __init__(self, stage: str, sigterm: bool) -> None:
        self.stage, self.sigterm = stage, sigterm

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        folder = str(trainer.default_root_dir)
        first = folder not in self.stopped
        if first and Path(folder).name == self.stage and trainer.global_step == 3:
            self.stopped.add(folder)
            if not self.sigterm:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _signals():
    """Restore the handlers: Lightning replaces them for the rest of the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def finished(output, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "chain"
    start_chain(output, folder, *STAGES)
    return folder


@pytest.fixture
def chain(finished):
    """The finished chain, restored in place after the test: stages name each other by path."""
    shutil.copytree(finished, finished.parent / "kept")
    yield finished
    shutil.rmtree(finished)
    (finished.parent / "kept").rename(finished)


@pytest.fixture
def again(output):
    """Start a chain once more; return the stages that were trained by that."""

    def call(folder: Path, *overrides: str) -> list[str]:
        before = results(folder)
        start_chain(output, folder, *STAGES, *overrides)
        return [name for name, time in sorted(results(folder).items()) if before.get(name) != time]

    return call


def results(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


@pytest.mark.parametrize(
    ("sigterm", "code"), [("false", "130"), pytest.param("true", "143", marks=pytest.mark.slow)]
)
def test_an_interrupted_chain_resumes(sigterm, code, output, finished, tmp_path):
    target = "test_chain_resume.StopIn"
    stop = f"+callbacks.stop={{_target_: {target}, stage: 2_resnet8, sigterm: {sigterm}}}"
    with pytest.raises(SystemExit, match=code):
        start_chain(output, tmp_path, *STAGES, stop)
    broken = json.loads((tmp_path / "chain.json").read_text())
    assert (broken["status"], broken["error"]) == ("failed", "stage 2_resnet8: interrupted")
    first = tmp_path / "1_mlp800" / "result.json"
    before = first.stat().st_mtime_ns
    found = start_chain(output, tmp_path, *STAGES, stop)
    assert first.stat().st_mtime_ns == before
    assert found["status"] == "completed"
    assert found["test/nll"] == json.loads((finished / "chain.json").read_text())["test/nll"]
    files = (folder / "2_resnet8" / "student.safetensors" for folder in (finished, tmp_path))
    assert equal_weights(*map(load_file, files))


def test_a_finished_chain_is_not_run_again(again, chain):
    assert again(chain) == []
    assert again(chain, "logger=csv", "doctor=true") == []  # settings that change no number


def test_a_finished_chain_is_not_kept_on_other_data(again, chain, monkeypatch):
    load = Digits.load

    def load_other(self):
        arrays = load(self)
        return arrays._replace(test_targets=arrays.test_targets.roll(1))

    monkeypatch.setattr(Digits, "load", load_other)
    with pytest.raises(UserError, match=r"stage 1_mlp800 is finished, .*changed since: data 'dig"):
        again(chain)


def test_a_lost_stage_is_trained_again(again, chain):
    expected = load_file(chain / "2_resnet8" / "student.safetensors")
    shutil.rmtree(chain / "2_resnet8" / "checkpoints")
    (chain / "2_resnet8" / "result.json").unlink()
    assert again(chain) == ["2_resnet8"]
    assert equal_weights(expected, load_file(chain / "2_resnet8" / "student.safetensors"))


def test_a_student_of_a_changed_teacher_is_trained_again(again, chain):
    file = chain / "1_mlp800" / "student.safetensors"
    file.write_bytes(safetensors_bytes({key: 2 * value for key, value in load_file(file).items()}))
    assert again(chain) == ["2_resnet8"]
    shutil.rmtree(chain / "1_mlp800")  # the first comes back as it was
    assert again(chain) == ["1_mlp800", "2_resnet8"]


def test_a_stage_that_comes_back_unchanged_affects_no_other(again, chain):
    (chain / "1_mlp800" / "student.safetensors").unlink()
    assert again(chain) == ["1_mlp800"]
    shutil.rmtree(chain / "1_mlp800")
    assert again(chain) == ["1_mlp800"]


def test_the_hash_of_weights_ignores_metadata(tmp_path):
    weight, other = (torch.full((2, 3), value) for value in (1.0, 2.0))
    contents = {
        "plain": safetensors_bytes({"weight": weight}),
        "described": safetensors_bytes({"weight": weight}, {"kd": "{}"}),
        "other": safetensors_bytes({"weight": other}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    plain, described, other_hash = (weights_hash(tmp_path / name) for name in contents)
    assert plain == described
    assert plain != other_hash


def test_a_stage_with_an_unreadable_basis_is_trained_again(again, chain):
    (chain / "2_resnet8" / "basis.txt").write_bytes(b"\xff")
    assert again(chain) == ["2_resnet8"]


def test_a_stage_that_cannot_resume_affects_no_other(again, chain):
    (chain / "1_mlp800" / "student.safetensors").unlink()
    (chain / "1_mlp800" / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"stage 1_mlp800: .*last.ckpt"):
        again(chain)
    assert (chain / "2_resnet8" / "student.safetensors").is_file()


def test_another_config_needs_another_folder(again, chain):
    message = r"stage 1_mlp800 in .* has run with optimizer.lr=0.05 instead of 0.3; choose"
    with pytest.raises(UserError, match=message):
        again(chain, "optimizer.lr=0.3")
    message = "holds stages of another chain: 1_mlp800, 2_resnet8"
    with pytest.raises(UserError, match=message):
        again(chain, "stages=[resnet8,resnet14]")
    assert json.loads((chain / "chain.json").read_text())["status"] == "completed"
