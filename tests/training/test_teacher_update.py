"""Teachers of which parts train along: what changes, by which loss, and what stays."""

import copy

import pytest
import torch
import torch.nn.functional as F
from omegaconf import open_dict
from safetensors.torch import load_file
from small_data import ready
from support import TwoStages, accuracy, built, composed, configured, make_distiller, random_batch
from torch import nn

from kd.build.given import GivenParts, describe_net
from kd.config.experiment import experiment_settings
from kd.config.identity import settings_hash
from kd.deploy.evaluation.notes import teacher_notes
from kd.deploy.evaluation.predictions import teacher_predictions
from kd.deploy.finished_run import FinishedRun
from kd.distillers.offline import OfflineDistiller
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets, kd
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.updated import UpdatedTeacher
from kd.training.run import run
from kd.validation.check import check_config

TINY = ("trainer.limit_train_batches=6", "trainer.max_epochs=2")
UPDATE = ("teacher.update=[fc,stage3.0,bn]", "optimizer.lr=0.1")


def trained(tmp_path, output, *overrides):
    return run(configured(tmp_path, output, *TINY, *overrides), tmp_path)


def original(output, result):
    (found,) = (
        path.parent
        for path in (output / "teachers").glob("*/student.safetensors")
        if path.parent.name.startswith("resnet8-")
    )
    return load_file(found / "student.safetensors")


def test_named_parts_change_and_all_others_stay(output, tmp_path):
    result = trained(tmp_path, output, *UPDATE)
    before, after = original(output, result), load_file(tmp_path / "teacher.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    parameters = {name for name in before if name.startswith(("fc.", "stage3.0."))}
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert changed == {n for n in parameters if "running" not in n} | statistics
    assert result["teacher/update"] == ["fc", "stage3.0", "bn"]
    assert (result["teacher/update_loss"], result["teacher/outputs"]) == ("both", "live")
    assert result["teacher/test/acc"] == pytest.approx(accuracy(before, width=1))
    assert result["teacher/test/acc_updated"] == pytest.approx(accuracy(after, width=1))
    state = torch.load(RunFolder(tmp_path).last, weights_only=True)["state_dict"]
    kept = {name.removeprefix("teacher.teacher.net.") for name in state if "teacher" in name}
    assert kept == changed  # in the checkpoint are these alone
    finished = FinishedRun(tmp_path)  # as kd.evaluate takes it
    assert finished.teacher is not None
    logits = teacher_predictions(finished.teacher, finished.data, ready(finished.data)).logits
    hits = (logits.argmax(1) == finished.data.test_targets).float().mean().item()
    assert hits == pytest.approx(result["teacher/test/acc_updated"])
    assert "parts of it (fc, stage3.0, bn) trained along" in next(teacher_notes(finished, True))


def test_statistics_alone_are_trained_by_no_loss(output, tmp_path):
    result = trained(tmp_path, output, "teacher.update=[bn]", "method.alpha=1")
    before, after = original(output, result), load_file(tmp_path / "teacher.safetensors")
    assert all(before[n].equal(after[n]) for n in before if n.endswith(("weight", "bias")))
    assert not all(before[n].equal(after[n]) for n in before)
    assert result["teacher/update_loss"] is None


def test_two_views_and_an_optimizer_of_three_gradients(output, tmp_path):
    result = trained(tmp_path, output, *UPDATE, "method=crld", "optimizer=deepkd")
    before, after = original(output, result), load_file(tmp_path / "teacher.safetensors")
    assert not before["fc.weight"].equal(after["fc.weight"])
    assert result["teacher/outputs"] == "live"


def test_an_interrupted_run_resumes_with_the_teacher_as_it_was(output, tmp_path):
    overrides = (*UPDATE, "teacher.update_lr=0.01")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    trained(whole, output, *overrides)
    stop = "+callbacks.stop={_target_: support.InterruptAt, step: 9}"
    with pytest.raises(SystemExit):
        trained(halves, output, *overrides, stop)
    trained(halves, output, *overrides, stop)  # step 9 is behind it
    for name in ("student", "teacher"):
        one, other = (load_file(f / f"{name}.safetensors") for f in (whole, halves))
        assert all(one[key].equal(other[key]) for key in one), name


def test_a_given_teacher_stays_as_it_was(output, tmp_path):
    torch.manual_seed(1)
    net = built("resnet8")[0]
    before = copy.deepcopy(net.state_dict())
    cfg = configured(tmp_path, output, "trainer.max_epochs=1", *UPDATE)
    with open_dict(cfg):
        cfg.teacher.net = describe_net(net)
    result = run(cfg, tmp_path, GivenParts(teacher=net))
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    after = load_file(tmp_path / "teacher.safetensors")
    assert not after["fc.weight"].equal(before["fc.weight"])
    assert result["teacher/source"] == "given"


def offline(teacher, student, **others):
    terms = {"hard": CrossEntropy(), "soft": SoftTargets(temperature=2.0), **others}
    weights = {"hard": 0.25, "soft": 0.75, **dict.fromkeys(others, 1.0)}
    distiller = make_distiller(
        OfflineDistiller,
        terms,
        weights,
        student=student,
        tap_paths={"embedding": "fc:in"},
        teacher=teacher,
    )
    distiller._trainer = None
    return distiller


def losses(distiller, batch):
    """Weighted value of each term, by the name of its pairing and its own."""
    weights = {"hard": 0.25, "soft": 0.75}
    return {
        (which, name): weights[name] * term(pair.student, pair.teacher, batch)
        for which, pair in distiller.pairings(batch, True).items()
        for name, term in distiller.terms_of(which).items()
    }


def test_the_teacher_has_the_terms_of_the_labels_alone():
    class OfStudent(CrossEntropy):
        reads_targets = False

    class OnTap(CrossEntropy):
        student_taps = ("embedding",)

    teacher = UpdatedTeacher(FrozenTeacher(TwoStages(), {}, []), ["fc"])
    distiller = offline(teacher, TwoStages(), words=OfStudent(), tap=OnTap())
    assert distiller.terms.keys() == {"hard", "soft", "words", "tap", "teacher/hard"}


def test_a_teacher_that_trains_comes_nearer_to_its_student():
    torch.manual_seed(0)
    teacher = UpdatedTeacher(FrozenTeacher(TwoStages(), {}, []), ["fc"], "method")
    distiller, batch = offline(teacher, TwoStages()), random_batch()
    optimizer = torch.optim.SGD(teacher.trained(), lr=0.1)
    seen = []
    for _ in range(30):
        loss = losses(distiller, batch)["", "soft"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.5 * seen[0]


@pytest.mark.parametrize("loss", ["both", "labels", "method"])
def test_the_gradient_of_the_teacher_is_that_of_the_chosen_loss(loss):
    torch.manual_seed(0)
    student, net, batch = TwoStages(), TwoStages().eval(), random_batch()
    teacher = UpdatedTeacher(FrozenTeacher(net, {}, []), ["fc"], loss, rate=0.5)
    distiller = offline(teacher, student)
    theirs = net(batch.input)
    ours = student(batch.input).detach()
    terms = {
        "labels": 0.25 * F.cross_entropy(theirs, batch.target),
        "method": 0.75 * kd(ours, theirs, 2.0),
    }
    chosen = torch.stack([term for name, term in terms.items() if loss in (name, "both")]).sum()
    (expected,) = torch.autograd.grad(chosen, [net.fc.weight])
    sum(losses(distiller, batch).values()).backward()
    torch.testing.assert_close(net.fc.weight.grad, expected)
    assert all(p.grad is None for n, p in net.named_parameters() if not n.startswith("fc."))
    own, other = distiller.parameter_groups()
    assert (len(other["params"]), other["lr"]) == (2, 0.5)
    assert len(own["params"]) == len(list(student.parameters()))


def test_both_views_of_a_batch_reach_the_parts():
    teacher = UpdatedTeacher(FrozenTeacher(TwoStages(), {}, []), ["fc"])
    batch = random_batch()
    second = batch._replace(input=-batch.input)
    outputs = teacher.outputs(batch._replace(second=second))
    views = [teacher.outputs(each).logits for each in (batch, second)]
    torch.testing.assert_close(outputs.logits, torch.cat(views))
    assert outputs.logits.requires_grad


def test_only_the_chosen_norms_train():
    teacher = UpdatedTeacher(FrozenTeacher(TwoStages(0.5), {}, []), ["bn"]).train()
    teacher.example_outputs(torch.zeros(2, 1, 8, 8))
    training = [m for m in teacher.modules() if m.training]
    assert [type(module) for module in training] == [nn.BatchNorm2d]
    assert not any(module.training for module in teacher.eval().modules())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("teacher.update=fc",), r"teacher\.update=fc: must be a list of names of its modules"),
        (("teacher.update=[fc]", "teacher.update_loss=label"), "did you mean 'labels'"),
        (("teacher.update=[fc]", "teacher.update_lr=0"), r"update_lr=0: must be a number > 0"),
        (("teacher.update=[fc]", "teacher.cache=on"), r"teacher\.cache=on: .*remove one"),
        (("teacher.update=[fc]", "control=shuffled"), r"remove teacher\.update"),
        (("teacher.update=[fc]", "method=ce"), "reads no teacher; remove it"),
        (("teacher.update=[fc]", "method.alpha=1"), r"set teacher\.update_loss=method"),
        (("teacher.update=[fc]", "teacher=ensemble"), "is of a single teacher"),
        (("teacher.update=[fc]", "method=fcfd"), r"objectives\.function runs the teacher's net"),
        (("teacher.update=[fc]", "method=sskd"), r"objectives\.rotations runs the teacher's net"),
        (("teacher.update=[fc]", "method=datafree"), r"method=datafree runs the teacher's net"),
        (
            ("teacher.update=[bn]", "method=nd"),
            "class means of a pretrained teacher, and needs",
        ),
        (("teacher.update=[fc]", "method=norm"), "replaces the head of one student by that of"),
        (("teacher.update=[fc]", "method=deit", "student=deit_tiny_cifar"), r"any net's logits"),
        (("teacher.update=[fc]", "mode=pskd"), "choose mode=offline"),
    ],
)
def test_mistakes_are_found_before_the_run(overrides, message):
    with pytest.raises(UserError, match=message):
        check_config(composed(*(o.replace("cache=", "cache.mode=") for o in overrides)))


def test_an_unknown_part_is_refused_before_a_teacher_is_trained(output, tmp_path):
    before = {path.name for path in (output / "teachers").glob("*")}
    with pytest.raises(UserError, match=r"no part .*did you mean .stage3.\? valid: stem, stage1"):
        trained(tmp_path, output, "teacher.update=[stage9]", "teacher.training.seed=55")
    assert {path.name for path in (output / "teachers").glob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} <= {".hydra", ".lock", "result.json"}


def test_no_update_is_no_setting():
    cfg = composed()
    before = settings_hash(cfg)
    assert not [key for key in experiment_settings(cfg) if key.startswith("teacher.update")]
    assert settings_hash(composed("teacher.update=[fc]")) != before
