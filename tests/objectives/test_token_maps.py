"""Tokens of nets on patches as maps: their places, and which methods read or refuse them."""

import re

import pytest
import torch
from conftest import make_batch, make_outputs
from support import built, composed, gradient

from kd.build.method import build_method
from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.token_maps import as_grid, with_maps
from kd.taps import Taps

TINY = {"dim": 12, "depth": 4}
READ = (
    *("fitnet", "at", "nst", "afd", "cwd", "ft", "ickd", "mgd", "reviewkd", "irg"),
    *("pkd_features", "vid", "srd", "sp", "cosine", "rkd", "srrl"),
)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_a_patch_stays_at_its_place(prefix):
    maps = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    patches = torch.stack([maps[:, :, i, j] for i in range(4) for j in range(4)], dim=1)
    tokens = torch.cat([torch.full((2, prefix, 3), -1.0), patches], dim=1)
    assert torch.equal(as_grid(tokens), maps)


def test_maps_vectors_and_other_sequences_stay_as_they_are():
    for shape in ((2, 3, 4, 4), (2, 3), (2, 42, 3)):  # 42 = 36 + 6
        tensor = torch.zeros(shape)
        assert as_grid(tensor) is tensor


def pair(student, teacher, method):
    """A method's own term between two nets on digits, and their outputs as it reads them."""
    cfg = composed(f"method={method}", f"student={student}", f"teacher={teacher}")
    objectives = build_method(cfg).objectives
    (term, *_) = [o for name, o in objectives.items() if name not in ("hard", "soft")]
    torch.manual_seed(0)
    images = torch.randn(4, 1, 8, 8)
    nets = [built(name, **(TINY if "tiny" in name else {})) for name in (student, teacher)]
    (own, own_paths), (other, other_paths) = nets
    ours = Taps(own, own_paths, term.student_taps).outputs(images)
    taps = Taps(other, other_paths, term.teacher_taps)
    with torch.no_grad():
        theirs = taps.outputs(images)
    outputs = with_maps(term, ours, images), with_maps(term, term.aligned(theirs), images)
    term.build(*outputs, Setting(10, torch.arange(40) % 10, None, taps.head, (8, 8)))
    return term, ours, outputs


@pytest.mark.parametrize("method", READ)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        pytest.param("vit_tiny_cifar", "resnet8", id="vit from resnet"),
        pytest.param("resnet8", "vit_tiny_cifar", id="resnet from vit", marks=pytest.mark.slow),
    ],
)
def test_methods_compare_maps_with_tokens(method, student, teacher):
    term, ours, outputs = pair(student, teacher, method)
    for tensor in ours.taps.values():
        tensor.retain_grad()
    loss = term(*outputs, make_batch(torch.arange(4)))
    loss.backward()
    assert loss.isfinite()
    assert any(gradient(t).abs().sum() > 0 for t in ours.taps.values() if t.grad is not None)


@pytest.mark.parametrize(
    ("method", "reason"),
    [("ab", "do not end in a ReLU"), ("ofd", "before a ReLU"), ("catkd", "average of the last")],
)
def test_methods_of_convolutions_refuse_tokens_with_the_reason(method, reason):
    nets = [("resnet8", "vit_tiny_cifar"), ("vit_tiny_cifar", "resnet8")]
    for student, teacher in nets:
        message = rf"{method} cannot read tap 'stage\d'.*\[4, 17, 12\]: .*{re.escape(reason)}"
        with pytest.raises(UserError, match=message):
            pair(student, teacher, method)


def test_tokens_of_other_terms_are_not_refused():
    cfg = composed("method=ab", "student=resnet8", "teacher=resnet8")
    term = build_method(cfg).objectives["boundary"]
    outputs = make_outputs(torch.zeros(2, 10), elsewhere=torch.zeros(2, 17, 12))
    assert with_maps(term, outputs, torch.zeros(2, 1, 8, 8)) is outputs


def test_tokens_of_texts_are_no_patches():
    for method in ("fitnet", "ab"):
        cfg = composed(f"method={method}", "student=resnet8", "teacher=resnet8")
        (term, *_) = [o for n, o in build_method(cfg).objectives.items() if n != "hard"]
        outputs = make_outputs(torch.zeros(2, 10), stage2=torch.zeros(2, 16, 12))
        assert with_maps(term, outputs, torch.zeros(2, 16, dtype=torch.int64)) is outputs
