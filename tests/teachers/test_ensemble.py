"""Ensembles of teachers: combined outputs, taps of one member, refusals."""

import numpy as np
import pytest
import torch
from conftest import make_batch
from support import softmax
from torch import nn

from kd.teachers.ensemble import EnsembleTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.weighting import confidence_weights


def constant(*logits: float) -> FrozenTeacher:
    """A teacher with the same logits for every image."""
    head = nn.Linear(64, len(logits))
    head.weight.data.zero_()
    head.bias.data = torch.tensor(logits)
    net = nn.Sequential(nn.Flatten(), head)
    return FrozenTeacher(net, {"stage1": "0", "embedding": "1:in"}, ["stage1"])


def test_ensemble_has_taps_and_head_of_one_member():
    members = {"a": constant(0.0, 1.0, 3.0), "b": constant(2.0, -1.0, 0.0)}
    batch = make_batch(torch.tensor([0, 1]))
    without = EnsembleTeacher(members, combine="logits")
    torch.testing.assert_close(without.outputs(batch).logits, torch.tensor([[1.0, 0.0, 1.5]] * 2))
    assert (without.outputs(batch).taps, without.head) == ({}, None)
    assert (without.output_source, without.forwards, without.seconds) == ("live", 8, 0.0)
    with_taps = EnsembleTeacher(members, weighting="fixed", weights=[3, 1], features="b")
    outputs = with_taps.pairing_outputs(batch)[""]
    mixture = 0.75 * softmax(np.array([0.0, 1, 3])) + 0.25 * softmax(np.array([2.0, -1, 0]))
    np.testing.assert_allclose(outputs.logits.softmax(1)[0], mixture, rtol=1e-6)
    assert outputs.taps["stage1"].shape == (2, 64)
    assert with_taps.head is members["b"].net.get_submodule("1")
    # Adapters are built on one net: its head maps its taps to the logits.
    example = with_taps.example_outputs(batch.input)[""]
    torch.testing.assert_close(with_taps.head(example.taps["stage1"]), example.logits)
    assert not list(with_taps.state_dict())


def test_losses_are_one_pairing_for_each_member():
    members = {"a": constant(0.0, 1.0, 3.0), "b": constant(2.0, -1.0, 0.0)}
    teacher = EnsembleTeacher(members, "losses", "fixed", [1, 3])
    assert teacher.pairing_weights == {"a": 0.25, "b": 0.75}
    all_outputs = teacher.pairing_outputs(make_batch(torch.tensor([0])))
    assert all_outputs["b"].logits.tolist() == [[2.0, -1.0, 0.0]]
    assert set(teacher.example_outputs(torch.zeros(1, 1, 8, 8))) == {"a", "b"}
    assert teacher.pairing_head("b") is members["b"].head
    assert EnsembleTeacher(members, features="a").pairing_head("") is members["a"].head


def test_confidence_is_uniform_without_labels():
    logits = torch.tensor(
        [[[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]], [[-0.5, 1.5, 0.0], [4.0, -2.0, 1.0]]]
    )
    target = torch.tensor([0, 2])
    members = {"a": constant(0.0), "b": constant(0.0)}
    teacher = EnsembleTeacher(members, combine="logits", weighting="confidence")
    torch.testing.assert_close(teacher.combined(logits), logits.mean(0))
    weighted = teacher.combined(logits, target)
    weights = confidence_weights(logits, target)
    torch.testing.assert_close(weighted, (weights.unsqueeze(2) * logits).sum(0))
    assert not weighted.allclose(logits.mean(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "logit"}, "no 'logit'; did you mean 'logits'"),
        ({"weighting": "entrop"}, "no 'entrop'; did you mean 'entropy'"),
        ({"combine": "losses", "weighting": "entropy"}, "entropy has a weight for every sample"),
        ({"weighting": "fixed", "weights": [1.0]}, "weights must be 2 numbers"),
        ({"weighting": "fixed", "weights": [1.0, -1.0]}, "weights must be 2 numbers"),
    ],
)
def test_invalid_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EnsembleTeacher({"a": constant(0.0), "b": constant(0.0)}, **settings)
