"""Every objective against its paper's formula, written again in float64 loops of plain Python."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import make_batch, make_outputs
from support import gradient

from kd.errors import UserError
from kd.objectives.at import AttentionTransfer
from kd.objectives.base import Objective
from kd.objectives.ce import CrossEntropy
from kd.objectives.cosine import Cosine
from kd.objectives.fitnet import Hint
from kd.objectives.maps import resample
from kd.objectives.setting import Setting

B, K, D = 5, 7, 6
SETTING = Setting(K, torch.arange(20) % K)


def softmax(row, temperature=1.0):
    shifted = [math.exp((x - max(row)) / temperature) for x in row]
    return [x / sum(shifted) for x in shifted]


def reference_ce(case):
    rows, labels = case["s"].logits.tolist(), case["y"].tolist()
    return sum(-math.log(softmax(z)[y]) for z, y in zip(rows, labels, strict=True)) / len(rows)


def reference_cosine(case, tap):
    s, t = case["s"].taps[tap].tolist(), case["t"].taps[tap].tolist()
    total = 0.0
    for a, b in zip(s, t, strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        total += 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return total / B


def reference_attention(case, taps, variant):
    total = 0.0
    for tap in taps:
        maps = [_unit_attention(case[role].taps[tap].double().numpy()) for role in "st"]
        squares = [
            [(a - b) ** 2 for a, b in zip(*rows, strict=True)] for rows in zip(*maps, strict=True)
        ]
        positions = len(squares[0])
        if variant == "mean_square":
            total += sum(map(sum, squares)) / (B * positions)
        else:
            total += sum(math.sqrt(sum(row)) for row in squares) / B / (2 * positions)
    return total


def _unit_attention(maps):
    rows = []
    for image in maps:
        channels, height, width = image.shape
        flat = [
            sum(image[c, i, j] ** 2 for c in range(channels)) / channels
            for i in range(height)
            for j in range(width)
        ]
        norm = math.sqrt(sum(x * x for x in flat))
        rows.append([x / norm for x in flat])
    return rows


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def outputs(embedding):
        return make_outputs(
            2 * normal(B, K),
            embedding=normal(B, embedding),
            stage1=normal(B, 4, 5, 5),
            stage2=normal(B, 3, 2, 2),
        )

    return {"s": outputs(D), "t": outputs(D), "y": torch.randint(0, K, (B,), generator=generator)}


CASES: dict[str, tuple[Callable[[], Objective], Callable[..., float]]] = {
    "ce": (CrossEntropy, reference_ce),
    "cosine": (lambda: Cosine(tap="embedding"), lambda c: reference_cosine(c, "embedding")),
    "at paper": (
        lambda: AttentionTransfer(taps=["stage1", "stage2"]),
        lambda c: reference_attention(c, ["stage1", "stage2"], "paper"),
    ),
    "at mean_square": (
        lambda: AttentionTransfer(taps=["stage1"], variant="mean_square"),
        lambda c: reference_attention(c, ["stage1"], "mean_square"),
    ),
}
MINIMUM_AT_TEACHER = [k for k in CASES if k != "ce"]


def value(name, case, student=None):
    objective = CASES[name][0]()
    student = student or case["s"]
    objective.build(student, case["t"], SETTING)
    return objective(student, case["t"], make_batch(case["y"]))


@pytest.mark.parametrize("name", CASES)
def test_value_is_the_papers(name, case):
    reference = CASES[name][1](case)
    assert value(name, case).item() == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("name", MINIMUM_AT_TEACHER)
def test_student_equal_to_teacher_costs_nothing(name, case):
    assert value(name, case, case["t"]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_batch_order_does_not_matter(name, case):
    before = value(name, case)
    order = torch.tensor([3, 0, 4, 2, 1])
    for role in "st":
        taps = {k: v[order] for k, v in case[role].taps.items()}
        case[role] = make_outputs(case[role].logits[order], **taps)
    case["y"] = case["y"][order]
    torch.testing.assert_close(value(name, case), before)


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_the_student_and_never_the_teacher(name, case):
    leaves = {}
    for role in "st":
        tensors = {"logits": case[role].logits, **case[role].taps}
        leaves[role] = {k: v.clone().requires_grad_(role == "s") for k, v in tensors.items()}
        taps = {k: v for k, v in leaves[role].items() if k != "logits"}
        case[role] = make_outputs(leaves[role]["logits"], **taps)
    value(name, case).backward()
    assert any(v.grad is not None and v.grad.abs().sum() > 0 for v in leaves["s"].values())
    assert all(v.grad is None for v in leaves["t"].values())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.0, 50.0], ids=["all zero", "logits of ±50"])
def test_finite_at_the_extremes_under_bfloat16(name, scale):
    generator = torch.Generator().manual_seed(1)

    def outputs(grad):
        logits = scale * torch.randn(1, 2, generator=generator).sign()
        taps = {"embedding": (1, 4), "stage1": (1, 3, 4, 4), "stage2": (1, 3, 2, 2)}
        tensors = {k: scale * torch.randn(*shape, generator=generator) for k, shape in taps.items()}
        return make_outputs(
            logits.requires_grad_(grad), **{k: v.requires_grad_(grad) for k, v in tensors.items()}
        )

    student, teacher = outputs(True), outputs(False)
    objective = CASES[name][0]()
    objective.build(student, teacher, SETTING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(student, teacher, make_batch(torch.tensor([1])))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    grads = [t.grad for t in (student.logits, *student.taps.values()) if t.grad is not None]
    assert grads
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("name", CASES)
def test_compiles_without_graph_breaks(name, case):
    objective = CASES[name][0]()
    objective.build(case["s"], case["t"], SETTING)
    batch = make_batch(case["y"])
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(case["s"], case["t"], batch), objective(case["s"], case["t"], batch)
    )


def test_label_smoothing_is_the_mixture_with_uniform(case):
    smooth = CrossEntropy(0.1)(case["s"], case["t"], make_batch(case["y"])).item()
    uniform = sum(-sum(map(math.log, softmax(z))) / K for z in case["s"].logits.tolist()) / B
    assert smooth == pytest.approx(0.9 * reference_ce(case) + 0.1 * uniform, rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((B, 3, 4, 4), (B, 8, 4, 4)),
        ((B, 3, 8, 8), (B, 8, 4, 4)),
        ((B, 3, 2, 2), (B, 8, 4, 4)),
        ((B, 3, 5, 5), (B, 8, 3, 3)),
        ((B, 6), (B, 8)),
        ((B, 6), (B, 8, 4, 4)),
        ((B, 3, 4, 4), (B, 9)),
    ],
)
def test_hint_fits_any_pair_of_shapes(student, teacher):
    torch.manual_seed(0)
    ours = make_outputs(torch.zeros(B, K), stage2=torch.randn(student, requires_grad=True))
    theirs = make_outputs(torch.zeros(B, K), stage2=torch.randn(teacher))
    hint = Hint()
    hint.build(ours, theirs, SETTING)
    loss = hint(ours, theirs, make_batch(torch.zeros(B, dtype=torch.long)))
    loss.backward()
    assert gradient(ours.taps["stage2"]).abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hint.parameters())
    assert loss.item() == pytest.approx(reference_hint(hint, ours, theirs), rel=1e-5)


def reference_hint(hint, ours, theirs):
    """Mean over every element of (BN(W·F_s) − F_t)², position by position, BN over the batch."""
    s, t = (outputs.taps["stage2"].detach().double() for outputs in (ours, theirs))
    if s.dim() == t.dim() == 4:
        s = resample(s, tuple(t.shape[2:]))
        s, t = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (s, t))
    else:
        s, t = (x.flatten(2).numpy().mean(2) if x.dim() == 4 else x for x in (s, t))
    weight = hint.regressor[0].weight.detach().double().flatten(1).numpy()
    mapped = np.asarray([[w @ row for w in weight] for row in np.asarray(s)])
    predicted = (mapped - mapped.mean(0)) / np.sqrt(mapped.var(0) + 1e-5)
    return float(((predicted - np.asarray(t)) ** 2).mean())


def test_resample_averages_down_and_interpolates_up():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert resample(maps, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resample(maps, (4, 4)) is maps
    assert resample(maps, (8, 8)).mean().item() == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(1.0), r"label_smoothing must be in \[0, 1\), got 1.0"),
        (lambda: AttentionTransfer(["stage1"], variant="papr"), "variant must be one of"),
        (lambda: AttentionTransfer([]), "no stage in common"),
        (lambda: AttentionTransfer(["stage1"], power=0), "power must be > 0, got 0"),
    ],
)
def test_constructors_refuse_nonsense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [AttentionTransfer, Cosine])
def test_wrong_ranks_are_named_with_their_shapes(kind, case):
    tap = "embedding" if kind is AttentionTransfer else "stage1"
    objective = kind([tap]) if kind is AttentionTransfer else kind(tap)
    with pytest.raises(UserError, match=rf"{tap}.*student has \[5, .*teacher"):
        objective.build(case["s"], case["t"], SETTING)
