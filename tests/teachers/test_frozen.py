"""A live teacher stays frozen and leaves no weights in the surrounding module."""

import torch
from conftest import make_batch
from torch import nn

from kd.teachers.class_map import ClassMap
from kd.teachers.frozen import FrozenTeacher


def make_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


def test_frozen_teacher_does_not_change():
    net = make_net()
    teacher = FrozenTeacher(net, {"stage1": "0"}, ["stage1"])
    module = nn.Sequential(teacher, nn.Linear(2, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    module.train()
    assert not any(m.training for m in net.modules())
    batch = make_batch(torch.zeros(6, dtype=torch.long))
    outputs = teacher.outputs(batch)
    assert not outputs.logits.requires_grad
    assert outputs.taps["stage1"].shape == (6, 4, 6, 6)
    assert teacher.forwards == 6
    assert list(module.state_dict()) == ["1.weight", "1.bias"]
    assert not any(p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_class_map_selects_every_kind_of_logits():
    net, images = make_net(), torch.randn(3, 1, 8, 8)
    teacher = FrozenTeacher(net, {}, [], classes=ClassMap([7, 2]))
    expected = net(images)[:, [7, 2]]
    batch = make_batch(torch.zeros(3, dtype=torch.long))._replace(input=images)
    assert teacher.outputs(batch).logits.equal(expected)
    assert teacher.run(images).logits.equal(expected)
    assert teacher.logits(images).equal(expected)
    assert teacher.example_outputs(images)[""].logits.equal(expected)
