"""Errors of libraries during training become messages with a remedy."""

import json

import pytest
import torch
from support import configured
from torch import nn

from kd.config.messages import user_message
from kd.errors import UserError
from kd.training.error_hints import error_hint, error_hints
from kd.training.run import run


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_reported_with_remedies(error, output, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("kd.objectives.ce.CrossEntropy.forward", fail)
    with pytest.raises(UserError, match=r"out of memory with data.batch_size=128: halve it"):
        run(configured(tmp_path, output, "method=ce"), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"


def test_other_errors_keep_their_traceback(output, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr("kd.objectives.ce.CrossEntropy.forward", fail)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        run(configured(tmp_path, output, "method=ce"), tmp_path)


def test_batch_norm_of_one_image_is_named():
    with pytest.raises(UserError, match=r"data\.batch_size=1: batch norm"), error_hints(1):
        nn.BatchNorm1d(3)(torch.zeros(1, 3))


def test_a_number_too_large_for_the_type_is_named():
    with pytest.raises(UserError, match="too large for the precision"), error_hints(64):
        torch.tensor(1.0, dtype=torch.float16).add_(1, alpha=1e38)


def test_an_operation_without_a_deterministic_form_is_named():
    message = "kthvalue CUDA does not have a deterministic implementation, but you set"
    hint = error_hint(RuntimeError(f"{message} 'torch.use_deterministic_algorithms(True)'."), 64)
    assert "deterministic=strict: kthvalue CUDA does not" in str(hint)


def test_an_error_without_a_remedy_stays():
    assert error_hint(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 64) is None


def test_a_net_that_no_memory_holds_is_no_bug():
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**14)
    assert user_message(error.value) == (
        "too little memory: 400000.0 GB are asked for at once; choose a smaller net, smaller "
        "samples or fewer of them"
    )
