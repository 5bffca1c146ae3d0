"""Several teachers: their means against NumPy, who counts for how much, and what it costs."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_batch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import nn

from kd.build.parts import build_data
from kd.config.compose import CONF_DIR, register_models
from kd.config.members import member_configs
from kd.errors import UserError
from kd.objectives.kd import kd
from kd.teachers.ensemble import EnsembleTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.weighting import (
    confidence_weights,
    entropy_weights,
    mean_of_logits,
    mean_of_probabilities,
)
from kd.training.run import run
from kd.training.teacher import teacher_key
from kd.validation.check import check_config

# Two teachers, two images, three classes.
LOGITS = np.array([[[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]], [[-0.5, 1.5, 0.0], [4.0, -2.0, 1.0]]])
TARGET = np.array([0, 2])


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


@pytest.fixture
def logits():
    return torch.tensor(LOGITS)


def constant(*logits: float) -> FrozenTeacher:
    """A teacher that answers every image alike."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, len(logits)))
    net[1].weight.data.zero_()
    net[1].bias.data = torch.tensor(logits)
    return FrozenTeacher(net, {"stage1": "0", "embedding": "1:in"}, ["stage1"])


def test_the_three_means_by_hand(logits):
    """Of probabilities, of logits, and of losses: the same gradient twice, three values."""
    temperature, weights = 2.0, np.array([0.25, 0.75])
    spread = torch.tensor(weights).unsqueeze(1).expand(2, 2)
    mixture = np.einsum("m,mbk->bk", weights, softmax(LOGITS / temperature))
    mixed = mean_of_probabilities(logits, spread, temperature)
    np.testing.assert_allclose(softmax(mixed.numpy() / temperature), mixture, rtol=1e-12)
    np.testing.assert_allclose(
        mean_of_logits(logits, spread), 0.25 * LOGITS[0] + 0.75 * LOGITS[1], rtol=1e-12
    )
    student = torch.tensor([[0.3, -0.2, 0.9], [1.0, 2.0, 0.0]], dtype=torch.float64)
    q = softmax(student.numpy() / temperature)
    values = {
        "probabilities": 4 * kl(mixture, q).mean(),
        "logits": 4 * kl(softmax(np.einsum("m,mbk->bk", weights, LOGITS) / 2.0), q).mean(),
        "losses": 4 * (weights * kl(softmax(LOGITS / temperature), q).mean(1)).sum(),
    }
    found = {
        "probabilities": kd(student, mixed, temperature),
        "logits": kd(student, mean_of_logits(logits, spread), temperature),
        "losses": sum(
            w * kd(student, z, temperature) for w, z in zip(weights, logits, strict=True)
        ),
    }
    for name, value in values.items():
        assert found[name].item() == pytest.approx(value, rel=1e-10), name
    assert values["losses"] > values["probabilities"] + 0.1
    assert abs(values["logits"] - values["probabilities"]) > 0.01


def test_mean_of_probabilities_and_of_losses_have_one_gradient():
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(3, 5, 7, dtype=torch.float64, generator=generator) * 3
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    student = torch.randn(5, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    mixed = mean_of_probabilities(answers, weights.unsqueeze(1).expand(3, 5), 4.0)
    mixture = kd(student, mixed, 4.0)
    losses = sum(w * kd(student, z, 4.0) for w, z in zip(weights, answers, strict=True))
    ours, theirs = (torch.autograd.grad(loss, student)[0] for loss in (mixture, losses))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert losses > mixture


def test_a_class_that_nobody_deems_likely_stays_finite():
    extreme = torch.tensor([[[200.0, 0.0, -200.0]], [[150.0, -300.0, 0.0]]])
    mixed = mean_of_probabilities(extreme, torch.full((2, 1), 0.5), 1.0)
    assert mixed.isfinite().all()
    alone = mean_of_probabilities(extreme, torch.tensor([[1.0], [0.0]]), 1.0)
    torch.testing.assert_close(alone, extreme[0].log_softmax(1))


def test_confidence_by_hand(logits):
    """Zhang et al. 2022, eq. 2: (1 − exp(c_m) / Σ_j exp(c_j)) / (M − 1) of cross-entropies c."""
    cost = -np.log(softmax(LOGITS)[:, [0, 1], TARGET])
    expected = 1 - np.exp(cost) / np.exp(cost).sum(0)
    found = confidence_weights(logits, torch.tensor(TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-12)
    assert found[0, 0] > 0.8  # class 0: the first teacher says so, the second does not


def test_entropy_by_hand(logits):
    p = softmax(LOGITS)
    entropy = -(p * np.log(p)).sum(-1)
    found = entropy_weights(logits)
    np.testing.assert_allclose(found, 1 - softmax(entropy, 0), rtol=1e-12)
    assert found[1, 1] > 0.7  # the first teacher has no opinion on the second image


def test_weights_by_sample_make_one_for_any_number_of_teachers():
    for teachers in (2, 3, 5):
        logits = 10 * torch.randn(teachers, 8, 4)
        target = torch.randint(0, 4, (8,))
        for weights in (entropy_weights(logits), confidence_weights(logits, target)):
            assert weights.shape == (teachers, 8)
            assert (weights >= 0).all()
            torch.testing.assert_close(weights.sum(0), torch.ones(8))


def test_an_ensemble_hands_out_one_members_taps_and_head():
    members = {"a": constant(0.0, 1.0, 3.0), "b": constant(2.0, -1.0, 0.0)}
    batch = make_batch(torch.tensor([0, 1]))
    blind = EnsembleTeacher(members, combine="logits")
    torch.testing.assert_close(blind.outputs(batch).logits, torch.tensor([[1.0, 0.0, 1.5]] * 2))
    assert (blind.outputs(batch).taps, blind.head) == ({}, None)
    assert (blind.output_source, blind.forwards, blind.seconds) == ("live", 8, 0.0)
    seeing = EnsembleTeacher(members, weighting="fixed", weights=[3, 1], features="b")
    outputs = seeing.pairing_outputs(batch)[""]
    mixture = 0.75 * softmax(np.array([0.0, 1, 3])) + 0.25 * softmax(np.array([2.0, -1, 0]))
    np.testing.assert_allclose(outputs.logits.softmax(1)[0], mixture, rtol=1e-6)
    assert outputs.taps["stage1"].shape == (2, 64)
    assert seeing.head is members["b"].net[1]
    # What adapters are built on is one net: its head makes the logits that stand beside its taps.
    probed = seeing.example_outputs(batch.input)[""]
    torch.testing.assert_close(seeing.head(probed.taps["stage1"]), probed.logits)
    assert not list(seeing.state_dict())


def test_losses_are_a_lesson_for_each_member():
    members = {"a": constant(0.0, 1.0, 3.0), "b": constant(2.0, -1.0, 0.0)}
    teacher = EnsembleTeacher(members, "losses", "fixed", [1, 3])
    assert teacher.pairing_weights == {"a": 0.25, "b": 0.75}
    all_outputs = teacher.pairing_outputs(make_batch(torch.tensor([0])))
    assert all_outputs["b"].logits.tolist() == [[2.0, -1.0, 0.0]]
    assert set(teacher.example_outputs(torch.zeros(1, 1, 8, 8))) == {"a", "b"}


def test_labels_of_test_images_do_not_count(logits):
    members = {"a": constant(0.0), "b": constant(0.0)}
    teacher = EnsembleTeacher(members, combine="logits", weighting="confidence")
    torch.testing.assert_close(teacher.combined(logits), logits.mean(0))
    told = teacher.combined(logits, torch.tensor(TARGET))
    weights = confidence_weights(logits, torch.tensor(TARGET))
    torch.testing.assert_close(told, (weights.unsqueeze(2) * logits).sum(0))
    assert not told.allclose(logits.mean(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "logit"}, "no 'logit'; did you mean 'logits'"),
        ({"weighting": "entrop"}, "no 'entrop'; did you mean 'entropy'"),
        ({"combine": "losses", "weighting": "entropy"}, "entropy weighs single samples"),
        ({"weighting": "fixed", "weights": [1.0]}, "weights must be 2 numbers"),
        ({"weighting": "fixed", "weights": [1.0, -1.0]}, "weights must be 2 numbers"),
    ],
)
def test_constructors_refuse_nonsense(settings, message):
    with pytest.raises(ValueError, match=message):
        EnsembleTeacher({"a": constant(0.0), "b": constant(0.0)}, **settings)


TINY = (
    *("student=resnet8", "student.net.width=0.5", "trainer=cpu", "logger=none", "debug=fast"),
    "trainer.enable_progress_bar=false",
)
BOTH = ("teacher=ensemble", "teacher.members=[resnet8,lightnn]")


def configured(folder, output, *overrides, teacher=BOTH):
    register_models(CONF_DIR)
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*TINY, *paths, *teacher, *overrides])


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Lightning switches Ctrl-C off for the rest of the process."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher.members=[resnet8,lightn]"], "no model 'lightn'; did you mean 'lightnn'"),
        (["teacher.members=[resnet8]"], "teacher.members=.*must be a list of two models or more"),
        (["teacher.members=resnet8"], "teacher.members=resnet8: must be a list of two"),
        (["teacher.combine=logit"], "teacher.combine=logit: .*did you mean 'logits'"),
        (["teacher.weighting=confident"], "teacher.weighting=.*did you mean 'confidence'"),
        (["teacher.weighting=fixed"], "teacher.weights=None: .*fixed needs 2 numbers"),
        (["teacher.weighting=fixed", "teacher.weights=[1,2,3]"], "needs 2 numbers ≥ 0"),
        (["teacher.weights=[1,2]"], "weighting=uniform has its own; use fixed"),
        (["teacher.checkpoints=[a]"], "teacher.checkpoints=.*must be a list of 2, one for each"),
        (["teacher.checkpoints=[a,3]"], "teacher.checkpoints=.*each must be a path or null"),
        (["teacher.checkpoint=a"], "teacher.checkpoint=a: an ensemble has teacher.checkpoints"),
        (["teacher.temperature=0"], "teacher.temperature=0: must be a number > 0"),
        (["teacher.features=resnet20"], "teacher.features=resnet20: .*did you mean 'resnet8'"),
        (["method=at"], "reads the teacher's stage1, .*name one as teacher.features=resnet8"),
        (
            ["method=fitnet", "teacher.features=lightnn", "method.teacher_tap=stage3"],
            "no tap 'stage3' in teacher=ensemble",
        ),
        (["method=sp", "teacher.combine=losses"], "which are one member's.*use probabilities"),
        (
            ["teacher.combine=losses", "teacher.weighting=entropy"],
            "a loss is a mean over the batch.*teacher.combine=probabilities has the gradient",
        ),
        (
            ["teacher.weighting=confidence", "data/augment=mixup"],
            "weighting=confidence reads labels, and data/augment=MixUp mixes them",
        ),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(configured("run", "out", *overrides))


def test_a_member_is_the_teacher_it_would_be_alone():
    cfg = configured("run", "out", "teacher.members=[resnet8,lightnn,resnet8]")
    data = SimpleNamespace(fingerprint="data")
    members = member_configs(cfg)
    assert list(members) == ["resnet8", "lightnn", "resnet8-2"]
    for name in ("resnet8", "lightnn"):
        alone = configured("run", "out", teacher=[f"teacher={name}"])
        assert teacher_key(members[name], data) == teacher_key(alone, data)
    second = configured("run", "out", teacher=["teacher=resnet8", "teacher.training.seed=1"])
    assert teacher_key(members["resnet8-2"], data) == teacher_key(second, data)
    assert cfg.teacher.training.seed == 0


def test_checkpoints_go_to_the_members_in_order():
    cfg = configured("run", "out", "teacher.checkpoints=[null,some/where]")
    found = {name: member.teacher.checkpoint for name, member in member_configs(cfg).items()}
    assert found == {"resnet8": None, "lightnn": "some/where"}


def test_another_combination_costs_no_pass_of_a_net(output, tmp_path):
    forwards, accuracies = {}, {}
    settings = {
        "first": (),
        "logits": ("teacher.combine=logits",),
        "losses": ("teacher.combine=losses",),
        "entropy": ("teacher.weighting=entropy",),
        "confidence": ("teacher.weighting=confidence",),
        "fixed": ("teacher.weighting=fixed", "teacher.weights=[0,1]"),
    }
    for name, overrides in settings.items():
        result = run(configured(tmp_path / name, output, *overrides), tmp_path / name)
        forwards[name] = result["teacher_forwards"]
        accuracies[name] = result["teacher/test/acc"]
    assert forwards.pop("first") == 2 * (359 + 2 * 64)  # test images, two batches of 64
    assert set(forwards.values()) == {0}
    assert (result["teacher"], result["teacher/members"]) == ("ensemble", ["resnet8", "lightnn"])
    assert result["teacher/source"] == "reused, reused"
    assert result["teacher/outputs"] == "cached"
    # All the weight on the second member: the two together are that one.
    assert accuracies["fixed"] == result["teacher/members/test/acc"][1]
    assert len(list((output / "teachers").glob("[!.]*"))) == 2


# simkd reads that member's head as well.
@pytest.mark.parametrize("method", ["at", "simkd"])
def test_features_are_those_of_the_named_member(method, output, tmp_path):
    overrides = (f"method={method}", "teacher.features=resnet8", "teacher.cache.mode=off")
    result = run(configured(tmp_path, output, *overrides), tmp_path)
    assert result["status"] == "completed"
    assert result["teacher/outputs"] == "live"
    sizes = []
    for name, cfg in member_configs(configured(tmp_path, output, *overrides)).items():
        key = teacher_key(cfg, build_data(cfg))
        weights = load_file(output / "teachers" / key / "student.safetensors")
        trained = [k for k in weights if "running" not in k and "num_batches" not in k]
        sizes.append(sum(weights[k].numel() for k in trained))
        assert cfg.teacher.name == name
    assert result["teacher/params"] == sum(sizes)
