"""BYOT: losses of early exits by hand, gradients, shapes, refusals."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import random_batch, self_distiller, training_logits
from torch import nn

from kd.distillers.byot import BYOTDistiller, Exit, exit_taps
from kd.errors import UserError
from kd.objectives.ce import CrossEntropy
from kd.objectives.fitnet import Hint
from kd.objectives.kd import SoftTargets


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    return random_batch()


def byot(weights=None, objectives=None, **options):
    objectives = objectives or {"hard": CrossEntropy(), "soft": SoftTargets(3.0)}
    return self_distiller(BYOTDistiller, objectives, weights, **options)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))


def logits_of(distiller, images):
    """Logits of exit and student in NumPy, with the batch's own statistics."""
    with torch.no_grad():
        maps = distiller.student.stage1(images)
        early = distiller.exits["exit1"](maps).logits
    return early.numpy(), training_logits(distiller, images).numpy()


def test_loss_of_exits_by_hand(batch):
    """(1 − α)·CE + α·T²·KL at the exit, and CE at weight 1 at the deepest."""
    distiller = byot({"hard": 0.7, "soft": 0.3})
    out = distiller.training_step(batch, 0)
    early, deep = logits_of(distiller, batch.input)
    rows, target = np.arange(6), batch.target.numpy()
    hard = [-log_softmax(z)[rows, target].mean() for z in (early, deep)]
    p, q = log_softmax(deep / 3), log_softmax(early / 3)
    soft = 9 * (np.exp(p) * (p - q)).sum(1).mean()
    assert out["loss"].item() == pytest.approx(0.7 * hard[0] + 0.3 * soft + hard[1], rel=1e-5)
    assert set(out["terms"]) == {"exit1/hard", "exit1/soft", "deepest/hard"}


def test_exit_loss_trains_the_trunk_but_not_the_deepest_layers(batch):
    distiller = byot({"hard": 0.5, "soft": 0.5})
    pairings = distiller.pairings(batch, with_teacher=True)
    student, teacher = pairings["exit1"][:2]
    distiller.objectives["exit1/soft"](student, teacher, batch).backward()
    net = distiller.student
    assert net.stage1[0].weight.grad.abs().sum() > 0
    assert distiller.exits["exit1"].head.weight.grad.abs().sum() > 0
    assert net.fc.weight.grad is None
    assert net.stage2[0].weight.grad is None
    assert pairings["deepest"].teacher is None


def test_exit_embeddings_have_the_deepest_shape(batch):
    hint = Hint("embedding", "embedding")
    distiller = byot(objectives={"hard": CrossEntropy(), "hint": hint})
    early = distiller.pairings(batch, with_teacher=True)["exit1"]
    assert early.student.taps["embedding"].shape == early.teacher.taps["embedding"].shape == (6, 5)
    assert not early.teacher.taps["embedding"].requires_grad
    trained = {name for name, p in distiller.named_parameters() if p.requires_grad}
    assert any(name.startswith("exits.exit1.bottleneck") for name in trained)
    assert {"exit1/hint", "exit1/hard", "deepest/hard"} == distiller.terms.keys()


def test_building_adapters_leaves_the_exits_unchanged():
    distiller = byot()
    norm = distiller.exits["exit1"].bottleneck[1]
    assert norm.num_batches_tracked == 0
    assert distiller.exits.training


@pytest.mark.parametrize(("size", "deep"), [(32, 4), (8, 8), (14, 7), (9, 2)])
def test_exit_ends_in_the_deepest_shape(size, deep):
    maps, deepest = torch.randn(2, 4, size, size), torch.randn(2, 12, deep, deep)
    exit = Exit(maps, deepest, num_classes=7)
    inner = exit.bottleneck(maps)
    assert inner.shape[1] == 12
    assert inner.shape[2] <= deep < 2 * inner.shape[2] + 1
    outputs = exit(maps)
    assert outputs.logits.shape == (2, 7)
    torch.testing.assert_close(outputs.taps["embedding"], inner.mean((2, 3)))
    convolutions = [m for m in exit.bottleneck if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == max(1, math.ceil(math.log2(size / deep)))


def test_labels_have_weight_one_at_the_deepest_exit_for_any_alpha(batch):
    for alpha in (0.1, 0.9):
        distiller = byot({"hard": 1 - alpha, "soft": alpha})
        distiller.training_step(batch, 0)
        weight, value = distiller.weighted["deepest/hard"]
        assert weight == pytest.approx(1.0)
        expected = F.cross_entropy(distiller.student(batch.input), batch.target)
        torch.testing.assert_close(value, expected)


def test_exits_are_at_all_stages_but_the_last():
    tap_paths = dict.fromkeys(["stem", "stage10", "stage2", "stage1", "embedding"], "x")
    assert exit_taps(tap_paths, None) == ["stage1", "stage2", "stage10"]
    assert exit_taps(tap_paths, ["stem"]) == ["stem", "stage10"]
    with pytest.raises(UserError, match="no tap 'stage3'; did you mean 'stage2'"):
        exit_taps(tap_paths, ["stage3"])
    with pytest.raises(UserError, match=r"taps are embedding, mode.distiller.exits=None"):
        exit_taps({"embedding": "fc:in"}, None)


def test_exit_on_a_vector_is_refused():
    with pytest.raises(UserError, match=r"needs maps .*tap 'embedding' has \[2, 5\]"):
        byot(exits=["embedding"])


def test_method_without_a_labels_term_is_refused():
    message = r"is trained on labels alone.*\(soft\).*alpha must be below"
    with pytest.raises(ValueError, match=message):
        byot(objectives={"soft": SoftTargets(3.0)})
