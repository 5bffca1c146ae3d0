"""Methods on features with the nets of published comparisons, at 8×8 and at 32×32."""

import copy
import logging

import pytest
import torch
from conftest import make_batch
from support import built, composed
from torch import nn

from kd.build.method import build_method
from kd.objectives.setting import Setting
from kd.taps import Taps

METHODS = [
    *("ab", "afd", "at", "catkd", "cosine", "cwd", "feature", "fitnet", "fsp", "ft", "ickd"),
    *("irg", "mgd", "nst", "ofd", "reviewkd", "semckd", "simkd", "sp", "srd", "srrl", "vid"),
]
PAIRS = [
    ("resnet18", "resnet8"),
    ("resnet56", "resnet20"),
    ("resnet34", "resnet18"),
    ("wrn_40_2", "wrn_16_2"),
    ("vgg13", "vgg8"),
    ("resnet32x4", "shufflenet_v1"),
]
# FSP of the paper needs equal channels; its variant with projections does not.
OPTIONS = {"fsp": ["method.variant=project"]}
# The stage that trains the student; the paraphraser's loss does not depend on the student.
STAGES = {"ft": "transfer"}
BATCH = make_batch(torch.arange(2))


def weighted(method, images, nets):
    """The method's own objective, its weighted gradient's length in the student, and rounding's.

    To first order, a gradient of length g changes a loss L by at most g·‖θ‖ where θ doubles.
    Float32 computes L, or a term of 1 inside it, to 1.2e-7 of itself; the bound is 100 times that.
    """
    (teacher, student) = nets
    names = [f"teacher={teacher[0]}", f"student={student[0]}"]
    cfg = composed(f"method={method}", *names, *OPTIONS.get(method, []))
    objectives = build_method(cfg).objectives
    name, objective = next((k, o) for k, o in objectives.items() if k not in ("hard", "soft"))
    objective.enter(STAGES.get(method, ""))
    net, other = (copy.deepcopy(net) for _, (net, _) in (student, teacher))
    ours = Taps(net, student[1][1], objective.student_taps)
    theirs = Taps(other, teacher[1][1], objective.teacher_taps)
    with torch.no_grad():
        outputs = theirs.outputs(images)
    own = ours.outputs(images)
    size = (images.shape[2], images.shape[3])
    setting = Setting(10, torch.arange(40) % 10, ours.head, theirs.head, size)
    objective.build(own, objective.aligned(outputs), setting)
    loss = objective(own, objective.aligned(outputs), BATCH)
    assert loss.isfinite(), (method, names)
    weight = cfg.method.weights[name]
    weight = weight if isinstance(weight, float | int) else 1.0
    loss = loss * weight
    scale = max(loss.abs().item(), weight) / nn.utils.get_total_norm(list(net.parameters())).item()
    rounding = 100 * torch.finfo(torch.float32).eps * scale
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    length = nn.utils.get_total_norm([g for g in grads if g is not None]).item()
    return objective, length, rounding


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_method_has_a_gradient_or_says_so(pair, size, caplog):
    nets = [(name, built(name)) for name in pair]
    images = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    for method in METHODS:
        torch.manual_seed(0)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            _, length, rounding = weighted(method, images, nets)
        found = length > rounding
        said = "no gradient" in caplog.text
        constant = "constant up to rounding" in caplog.text
        assert found or said or constant, (method, length, rounding)
        assert not (found and said), (method, length, rounding)
        assert not said or (method, size) == ("catkd", 8)  # its map feeds the classifier
        assert not constant or (method, size) == ("cwd", 8)


def test_cwd_takes_the_last_stage_with_several_positions(caplog):
    nets = [(name, built(name)) for name in ("vgg13", "vgg8")]
    with caplog.at_level(logging.WARNING):
        objective, *_ = weighted("cwd", torch.randn(2, 1, 8, 8), nets)
    assert objective.student_taps == objective.teacher_taps == ("stage3",)
    assert "student's tap stage5 has one: the student's tap stage3 takes its place" in caplog.text
    objective, *_ = weighted("cwd", torch.randn(2, 1, 32, 32), nets)
    assert objective.student_taps == ("stage5",)


def test_at_weighs_small_and_large_images_alike():
    """The paper's division by positions alone weighs 8×8 images 16 times as much as 32×32."""
    torch.manual_seed(0)
    nets = [(name, built(name)) for name in ("resnet20", "resnet8")]
    small = torch.randn(2, 1, 8, 8)
    _, at_8, _ = weighted("at", small, nets)
    _, at_32, _ = weighted("at", nn.functional.interpolate(small, (32, 32), mode="bilinear"), nets)
    assert 0.5 < at_8 / at_32 < 2


def test_rounding_is_no_gradient(caplog):
    """The student's last map has one position, so that its softmax is 1 whatever the map."""
    nets = [(name, built(name)) for name in ("resnet32x4", "vgg8")]
    with caplog.at_level(logging.WARNING):
        _, length, rounding = weighted("cwd", torch.randn(2, 1, 8, 8), nets)
    assert length < rounding
    assert "the term is constant up to rounding" in caplog.text
