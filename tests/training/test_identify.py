"""Data and weights that are replaced before a run is resumed, or after it has ended."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from support import InterruptAt, built, configured, present

from kd.data.digits import Digits
from kd.errors import UserError
from kd.io.tensors import safetensors_bytes
from kd.training.fingerprints import weights_hash
from kd.training.finished import finished
from kd.training.run import run

EPOCH = "trainer.max_epochs=1"


@pytest.fixture
def replaced_data(monkeypatch):
    """A function after whose call one test label of the digits is another one."""
    load = Digits.load

    def load_other(self):
        arrays = load(self)
        targets = arrays.test_targets.clone()
        targets[3] = (targets[3] + 1) % 10
        return arrays._replace(test_targets=targets)

    return lambda: monkeypatch.setattr(Digits, "load", load_other)


def replace_weights(file) -> None:
    weights = load_file(file)
    scaled = {k: 1.5 * v if v.is_floating_point() else v for k, v in weights.items()}
    file.write_bytes(safetensors_bytes(scaled))


@pytest.fixture
def teacher(tmp_path):
    """A file of a teacher's weights."""
    file = tmp_path / "teacher.safetensors"
    file.write_bytes(safetensors_bytes(built("resnet8", width=1.0)[0].state_dict()))
    return file


def test_a_result_names_data_and_teacher(teacher, output, tmp_path):
    folder, other = tmp_path / "a", tmp_path / "b"
    options = ("method=kd", EPOCH, f"teacher.checkpoint={teacher}")
    first = run(configured(folder, output, *options), folder)
    for key in ("data/fingerprint", "teacher/weights_hash"):
        assert len(str(first.get(key))) == 12
    assert (first["student/start_hash"], first["changes"]) == (None, [])
    # The same weights in another file are the same experiment; others are another one.
    moved = teacher.with_name("moved.safetensors")
    shutil.copy(teacher, moved)
    again = run(configured(other, output, *options[:2], f"teacher.checkpoint={moved}"), other)
    assert again["config_hash"] == first["config_hash"]
    replace_weights(moved)
    shutil.rmtree(other)
    third = run(configured(other, output, *options[:2], f"teacher.checkpoint={moved}"), other)
    assert third["config_hash"] != first["config_hash"]
    assert third["data/fingerprint"] == first["data/fingerprint"]


@pytest.mark.parametrize("what", ["data", "teacher", "registry", "start"])
def test_a_finished_run_is_compared_with_its_inputs(what, teacher, output, tmp_path, replaced_data):
    folder, registry = tmp_path / "run", tmp_path / "teachers"
    cfg = configured(folder, output, "method=kd", EPOCH, f"paths.teachers={registry}")
    if what == "teacher":
        cfg.teacher.checkpoint = str(teacher)
    if what == "start":
        small = built("resnet8", width=0.5)[0].state_dict()
        start = tmp_path / "start.safetensors"
        sets = {"first": 1.0, "second": 1.5}
        start.write_bytes(
            safetensors_bytes({f"{s}.{k}": (c * v).to(v.dtype) for s, c in sets.items()
                               for k, v in small.items()})
        )  # fmt: skip
        cfg.student.checkpoint, cfg.student.checkpoint_key = str(start), "second"
    result = run(cfg, folder)
    assert present(finished(cfg, folder))["test/acc"] == result["test/acc"]
    if what == "data":
        replaced_data()
    else:
        files = {"teacher": teacher, "start": tmp_path / "start.safetensors"}
        replace_weights(files.get(what) or next(registry.glob("*/student.safetensors")))
    named = {"data": "data 'digits'", "start": "student.checkpoint="}.get(what, "teacher's weights")
    with pytest.raises(UserError, match=rf"this run, finished, but .*changed since: .*{named}"):
        finished(cfg, folder)


@pytest.mark.parametrize("what", ["data", "teacher"])
def test_a_run_does_not_resume_on_other_inputs(what, teacher, output, tmp_path, replaced_data):
    folder = tmp_path / "run"
    cfg = configured(folder, output, "method=kd", EPOCH, f"teacher.checkpoint={teacher}")
    with pytest.raises(SystemExit):
        run(cfg, folder, callbacks=[InterruptAt(3)])
    saved = (folder / "checkpoints" / "last.ckpt").read_bytes()
    if what == "data":
        replaced_data()
    else:
        replace_weights(teacher)
    with pytest.raises(UserError, match=rf"resume=.*{what}.* changed since the run began"):
        run(cfg, folder)
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == saved


def test_other_callbacks_are_another_run(output, tmp_path):
    run(configured(tmp_path, output, "method=ce", EPOCH), tmp_path)
    swa = "lightning.pytorch.callbacks.StochasticWeightAveraging"
    cfg = configured(
        tmp_path, output, "method=ce", EPOCH, f"+callbacks.swa={{_target_: {swa}, swa_lrs: 0.1}}"
    )
    with pytest.raises(UserError, match=r"another configuration \(callbacks\.swa\._target_=absent"):
        finished(cfg, tmp_path)


def test_the_hash_of_weights_depends_on_every_value():
    net = torch.nn.BatchNorm1d(2)
    before = weights_hash(net)
    present(net.num_batches_tracked).add_(1)
    assert weights_hash(net) != before
    assert weights_hash(net.bfloat16()) != before
