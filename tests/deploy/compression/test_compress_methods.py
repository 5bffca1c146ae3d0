"""Every method of the library teaches while a student is compressed; interrupted runs go on."""

import copy
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
import torch
from finished_runs import finished_run
from safetensors.torch import load_file
from support import OTHER_METHODS, InterruptAt

from kd.config.compose import CONF_DIR
from kd.deploy.compression.compress import compress, pruned
from kd.deploy.compression.plan import check_plan, method_config, plan_config
from kd.deploy.compression.settings import Compression
from kd.deploy.finished_run import FinishedRun
from kd.models.sizing import count_parameters
from kd.training.run import run as train

# FSP compares products of stages, whose channels must be as many as the teacher's.
ALL = {path.stem for path in (CONF_DIR / "method").glob("*.yaml")}
METHODS = sorted(ALL - {"fsp", *OTHER_METHODS})


@cache
def source(folder):
    run = FinishedRun(folder)
    return run, pruned(run, Compression())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_teaches_a_student_without_half_its_channels_in_int8(method, output, tmp_path):
    run, net = source(finished_run("kd", output))
    cfg = plan_config(run, Compression(), tmp_path / "small", method_config(method))
    cfg.trainer.limit_train_batches = 2
    check_plan(run, cfg)
    made = compress(run, Compression(), cfg, copy.deepcopy(net))
    assert made.result["method"] == method
    assert made.result["teacher"] in ("resnet8", "none")
    own: Any = made.student.net
    changed = getattr(own, "changed_student", own)
    assert count_parameters(changed) < 0.4 * count_parameters(run.student)
    weight = changed.get_parameter("stage1.0.body.0.weight")
    assert all(len(channel.unique()) <= 255 for channel in weight)


def interrupted(*arguments):
    cfg, folder, given, callbacks = arguments
    return train(cfg, folder, given, [*callbacks, InterruptAt(step=25)])


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.slow
def test_an_interrupted_compression_goes_on_as_if_it_had_not_been(output, tmp_path, monkeypatch):
    run = FinishedRun(finished_run("kd", output))
    before, how = files(run.folder), Compression("magnitude", 0.7)

    def start(name):
        return compress(run, how, plan_config(run, how, tmp_path / name, max_epochs=4))

    start("whole")
    with monkeypatch.context() as patch:
        patch.setattr("kd.deploy.compression.compress.train", interrupted)
        with pytest.raises(SystemExit, match="130"):
            start("parts")
    assert (tmp_path / "parts" / "checkpoints" / "last.ckpt").is_file()
    start("parts")
    whole, parts = (load_file(tmp_path / n / "student.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    assert files(run.folder) == before
