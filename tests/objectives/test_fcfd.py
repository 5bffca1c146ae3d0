"""Liu et al. 2023, FCFD: both nets' maps in the later layers of each other."""

import copy
from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import built, configured, divergence, gradient, softmax
from torch import Tensor, nn

from kd.build.given import GivenParts
from kd.deploy.compression.fake_quantise import fake_quantise
from kd.errors import UserError
from kd.models.densenet import densenet
from kd.objectives.fcfd import FunctionConsistent, fcfd
from kd.objectives.setting import Setting
from kd.objectives.stage_layers import StageLayers
from kd.taps import Taps
from kd.training.run import run
from kd.types import Outputs

STAGES = ("stage1", "stage2", "stage3")
PATHS = {name: name for name in STAGES}


def make_net(widths, classes=5):
    """[B, 1, 4, 4] -> [B, K], with three stages and batch norm."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, (narrow, wide) in zip(STAGES, pairwise((1, *widths)), strict=True):
        conv = nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
        layers[name] = nn.Sequential(conv, nn.BatchNorm2d(wide), nn.ReLU())
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(layers | {"fc": nn.Linear(widths[-1], classes)})


def convolved(maps, conv):
    """Padded 3×3 convolution, one kernel entry at a time, in float64."""
    weight = conv.weight.detach().double().numpy()
    height, width = maps.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sum(
        np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(3)
        for j in range(3)
    )


def normalised(maps, norm, batch):
    """Batch norm by the statistics of the batch or the running ones."""
    mean, variance = (maps.mean((0, 2, 3)), maps.var((0, 2, 3)))
    if not batch:
        mean, variance = (b.double().numpy() for b in (norm.running_mean, norm.running_var))
    weight, bias = (p.detach().double().numpy() for p in (norm.weight, norm.bias))
    scale = weight / np.sqrt(variance + 1e-5)
    return maps * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def behind(net, stage, maps, batch):
    """Maps of the stages behind `stage`, and the logits."""
    found = []
    for name in STAGES[stage + 1 :]:
        conv, norm, _ = net.get_submodule(name)
        maps = np.maximum(normalised(convolved(maps, conv), norm, batch), 0)
        found.append(maps)
    weight, bias = (p.detach().double().numpy() for p in net.fc.parameters())
    return [*found, maps.mean((2, 3)) @ weight.T + bias]


def bridged(maps, bridge):
    mapped = normalised(convolved(maps, bridge[0]), bridge[1], batch=True)
    return np.where(mapped > 0, mapped, 0.1 * mapped)


class TestThreeStages(Contract):
    taps: ClassVar = {"stage1": (2, 4, 4), "stage2": (3, 4, 4), "stage3": (4, 4, 4)}
    teacher_taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (5, 4, 4), "stage3": (6, 4, 4)}

    def make(self):
        return FunctionConsistent(STAGES, PATHS, PATHS, distance=0.7, temperature=2.0)

    def setting(self, classes):
        shapes = self.taps, self.teacher_taps
        self.nets = [make_net([s[0] for s in each.values()], classes).eval() for each in shapes]
        targets = torch.arange(self.pool) % classes
        return Setting(classes, targets, student_net=self.nets[0], teacher_net=self.nets[1])

    def outputs(self, shapes, batch, classes, scale=1.0):
        net = self.nets[0 if shapes is self.taps else 1]
        with torch.no_grad():
            return Taps(net, PATHS, STAGES).outputs(scale * torch.randn(batch, 1, 4, 4))

    def reference(self, student, teacher, target, objective):
        net, other = self.nets
        ours, theirs = ([outputs.taps[s] for s in STAGES] for outputs in (student, teacher))
        entered = [bridged(m, b) for m, b in zip(ours, objective.to_teacher, strict=True)]
        maps = sum(((a - t) ** 2).mean() for a, t in zip(entered, theirs, strict=True))
        logits = []
        for stage in (0, 1):
            *later, path = behind(other, stage, entered[stage], batch=False)
            pairs = zip(later, theirs[stage + 1 :], strict=True)
            maps += sum(((a - t) ** 2).mean() for a, t in pairs) / 2
            own = bridged(theirs[stage], objective.to_student[stage])
            logits += [path, behind(net, stage, own, batch=True)[-1]]
        goal = softmax(teacher.logits / 2)
        return 0.7 * maps + sum(4 * divergence(goal, softmax(z / 2)) for z in logits) / 2


def case(student=(3, 4, 5), teacher=(3, 4, 5), same=True, **settings):
    """Two nets, one a copy of the other with `same`, an objective, and their outputs."""
    torch.manual_seed(0)
    theirs = make_net(teacher).eval().requires_grad_(False)
    ours = copy.deepcopy(theirs).requires_grad_() if same else make_net(student).eval()
    taps = [Taps(net, PATHS, STAGES) for net in (ours, theirs)]
    images = torch.randn(8, 1, 4, 4)
    outputs = [each.outputs(images) for each in taps]
    objective = FunctionConsistent(STAGES, PATHS, PATHS, **settings)
    setting = Setting(5, torch.arange(8) % 5, student_net=ours, teacher_net=theirs)
    objective.build(outputs[0], outputs[1], setting)
    return objective, ours, theirs, outputs


BATCH = make_batch(torch.arange(8) % 5)


def without_bridges(objective):
    for bridges in (objective.to_teacher, objective.to_student):
        for number in range(len(bridges)):
            bridges[number] = nn.Identity()
    return objective


def test_features_equal_to_the_teachers_cost_nothing():
    objective, _, _, (student, teacher) = case()
    value = without_bridges(objective).eval()(student, teacher, BATCH)
    assert value.item() == pytest.approx(0, abs=1e-10)


def test_a_difference_counts_by_what_the_later_layers_make_of_it():
    """Of two changes of the same length, the one in a channel that no layer reads costs less."""
    objective, ours, theirs, (student, _) = case(distance=0.0)
    with torch.no_grad():
        for net in (ours, theirs):
            net.stage2[0].weight[:, 0] = 0
            net.fc.weight.mul_(100)
        teacher = Taps(theirs, PATHS, STAGES).outputs(torch.randn(8, 1, 4, 4))
    without_bridges(objective).eval()
    values = []
    for channel in (0, 1):
        maps = dict(teacher.taps)
        maps["stage1"] = maps["stage1"].clone()
        maps["stage1"][:, channel] += 1
        values.append(objective(Outputs(student.logits, maps), teacher, BATCH).item())
    assert values[0] < 1e-3 * values[1]


def test_the_students_layers_learn_and_the_teachers_stay():
    objective, ours, theirs, (student, teacher) = case(same=False)
    before = {k: v.clone() for k, v in (ours.state_dict() | theirs.state_dict()).items()}
    objective(student, teacher, BATCH).backward()
    assert gradient(ours.stage2[0].weight).abs().sum() > 0
    assert gradient(ours.fc.weight).abs().sum() > 0
    assert all(p.grad is None for p in theirs.parameters())
    after = ours.state_dict() | theirs.state_dict()
    assert all(after[k].equal(v) for k, v in before.items()), "running statistics stay"


def test_the_nets_are_not_part_of_the_objective_and_train_on():
    objective, ours, _, (student, teacher) = case(same=False)
    names = {name.partition(".")[0] for name in objective.state_dict()}
    assert names == {"to_teacher", "to_student"}
    before = objective.eval()(student, teacher, BATCH)
    with torch.no_grad():
        ours.fc.weight[0].add_(1.0)
    assert not torch.isclose(objective(student, teacher, BATCH), before)


def test_a_path_leaves_no_tensor_in_the_taps():
    objective, ours, _, (student, teacher) = case(same=False)
    seen = []
    ours.stage3.register_forward_hook(lambda *_: seen.append(1))
    objective(student, teacher, BATCH)
    assert seen == []


def test_descent_makes_the_paths_agree_with_the_teacher():
    objective, ours, theirs, _ = case(student=(2, 3, 4), same=False, distance=0.1)
    with torch.no_grad():
        theirs.fc.weight.mul_(8)
    taps = [Taps(net, PATHS, STAGES) for net in (ours, theirs)]
    images = torch.randn(64, 1, 4, 4)
    batch = make_batch(torch.arange(64) % 5)
    optimizer = torch.optim.Adam([*ours.parameters(), *objective.parameters()], 0.01)
    values, agreed = [], 0.0
    for _ in range(80):
        student, teacher = (each.outputs(images) for each in taps)
        value = objective(student, teacher, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    with torch.no_grad():
        maps = objective.to_teacher[1](student.taps["stage2"])
        logits = theirs.fc(theirs.flatten(theirs.pool(theirs.stage3(maps))))
        agreed = (logits.argmax(1) == teacher.logits.argmax(1)).float().mean().item()
    assert values[-1] < 0.3 * values[0]
    assert agreed > 0.7


def build(student_net, teacher_net=None, taps=STAGES):
    objective, ours, theirs, (student, teacher) = case()
    objective = FunctionConsistent(taps, PATHS, PATHS)
    student_net = ours if student_net is None else student_net
    nets = {"student_net": student_net, "teacher_net": teacher_net or theirs}
    objective.build(student, objective.aligned(teacher), Setting(5, torch.arange(8), **nets))


def test_other_nets_are_refused():
    class Wrapped(nn.Module):
        pass

    with pytest.raises(UserError, match=r"student's layers.*members stage1.*student is Wrapped"):
        build(Wrapped())
    with pytest.raises(UserError, match=r"student's layers behind stage 1 of method.taps do not"):
        build(make_net((3, 4, 5)).eval())
    with pytest.raises(
        UserError, match=r"as stage2, stage1; .*order of the layers, stage1, stage2"
    ):
        build(None, taps=["stage2", "stage1"])
    objective, ours, _, (student, teacher) = case()
    with pytest.raises(UserError, match="teacher is an ensemble"):
        objective.build(student, teacher, Setting(5, torch.arange(8), student_net=ours))


def test_a_stage_may_end_within_a_sequence_of_layers():
    """DenseNet's stages end at the ReLU of a transition, whose convolution belongs to the next."""
    net = densenet(1, 8, 5, width=0.25).eval()
    paths = ["transition1.relu", "transition2.relu", "relu"]
    outputs = Taps(net, {path: path for path in paths}, paths).probe(torch.randn(2, 1, 8, 8))
    layers = StageLayers(net, paths, "teacher")
    layers.check([outputs.taps[path] for path in paths], outputs.logits, "teacher")
    assert any(isinstance(part, nn.Conv2d) for part in layers.live[0].children())


def test_without_a_map_that_differs_the_divergences_remain():
    logits, goal = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    maps = torch.zeros(1, 1, 2, 2)
    value = fcfd([(maps, maps)], [(maps, maps)], [logits, goal], goal, temperature=1.0)
    p = softmax([[0.0, 1.0]])
    assert value.item() == pytest.approx(divergence(p, softmax([[1.0, 0.0]])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taps": ["stage1"]}, r"taps must name two stages or more, got \['stage1'\]"),
        ({"taps": STAGES, "distance": -1.0}, r"distance must be ≥ 0, got -1\.0"),
        ({"taps": STAGES, "temperature": 0}, "temperature must be a number > 0, got 0"),
    ],
)
def test_invalid_settings_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        FunctionConsistent(student_paths=PATHS, teacher_paths=PATHS, **arguments)


def test_layers_of_a_path_round_their_inputs_as_the_net_does():
    """The first batch of a path would set a range of its own otherwise."""
    torch.manual_seed(0)
    ours, theirs = fake_quantise(make_net((3, 4, 5))).eval(), make_net((3, 4, 5)).eval()
    objective = FunctionConsistent(STAGES, PATHS, PATHS)
    taps = [Taps(net, PATHS, STAGES) for net in (ours, theirs)]
    images = torch.randn(8, 1, 4, 4)
    setting = Setting(5, torch.arange(8) % 5, student_net=ours, teacher_net=theirs)
    objective.build(taps[0].outputs(images), taps[1].outputs(images), setting)
    ours.train()(images)
    ours.eval()
    layers, maps = objective._layers[0], taps[0].outputs(images).taps
    layers.train(False)
    for stage, following in enumerate(STAGES[1:]):
        torch.testing.assert_close(layers.run(stage, maps[STAGES[stage]]), maps[following])


class Negated(nn.Sequential):
    """The net of its layers, but for a sign behind stage 1 that none of them has."""

    def forward(self, images: Tensor) -> Tensor:
        for name, layer in self.named_children():
            images = layer(images)
            images = -images if name == "stage1" else images
        return images


def test_layers_that_do_not_make_the_students_outputs_are_found(output, tmp_path):
    student = Negated(OrderedDict(built("resnet8")[0].named_children()))
    cfg = configured(tmp_path, output, "method=fcfd")
    with pytest.raises(UserError, match=r"student's layers behind stage 1 .* do not make its next"):
        run(cfg, tmp_path, GivenParts(student=student))
