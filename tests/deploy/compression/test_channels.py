"""Removal of channels: what is left, that nothing else changes, and which nets are refused."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pruned_nets import FAMILIES, SHAPE, randomised
from support import built
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import kd
from kd.deploy.compression.channels import remove_channels
from kd.models.memory_format import is_channels_last, set_memory_format
from kd.models.sizing import count_parameters
from kd.models.timm_net import timm_net
from kd.models.torchvision_net import torchvision_net


def multiply_adds(net, images):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(images)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_half_the_channels_leave_a_quarter_of_the_work(name):
    torch.manual_seed(0)
    net = randomised(built(name, **FAMILIES[name])[0])
    before = copy.deepcopy(net.state_dict())
    pruned = remove_channels(net, SHAPE, 0.5)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert set(pruned.left.values()) == {"the net's output"}
    assert pruned.net.state_dict().keys() == before.keys()
    images = torch.randn(3, *SHAPE)
    assert pruned.net(images).shape == (3, 10)
    work = multiply_adds(pruned.net, images) / multiply_adds(net, images)
    weights = count_parameters(pruned.net) / count_parameters(net)
    # The first layer keeps its inputs and the last its outputs, so more than a quarter is left.
    assert 0.2 < weights < 0.5
    assert 0.2 < work < 0.5
    for name, (old, new) in pruned.channels.items():
        assert new == pytest.approx(old / 2, abs=0.5), name


@pytest.mark.slow
def test_densenet_is_pruned():
    net = randomised(built("densenet121", width=0.1)[0])
    pruned = remove_channels(net, SHAPE, 0.5)
    assert count_parameters(pruned.net) < 0.4 * count_parameters(net)


class Residual(nn.Module):
    """A stem, a block with a shortcut and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.fc((x + self.conv(x)).mean((2, 3)))


def test_the_channels_of_the_smallest_norm_go_with_all_that_belongs_to_them():
    torch.manual_seed(0)
    net = randomised(Residual()).eval()
    with torch.no_grad():
        for small in (0, 2):
            # The sum couples both convolutions, batch norm, and the inputs of conv and classifier.
            for tensor in (net.stem.weight, net.stem.bias, net.conv.weight, net.conv.bias):
                tensor[small] *= 1e-3
            net.norm.weight[small] *= 1e-3
    pruned: Any = remove_channels(net, SHAPE, 0.5).net
    kept = [1, 3]
    assert torch.equal(pruned.stem.weight, net.stem.weight[kept])
    assert torch.equal(pruned.conv.weight, net.conv.weight[kept][:, kept])
    assert torch.equal(pruned.norm.running_mean, net.norm.running_mean[kept])
    assert torch.equal(pruned.fc.weight, net.fc.weight[:, kept])
    assert torch.equal(pruned.fc.bias, net.fc.bias)

    # The net with those channels set to zero, by hand
    images = torch.randn(5, *SHAPE)
    gate = torch.tensor([0.0, 1, 0, 1])[:, None, None]
    maps = net.norm(net.stem(images)).relu() * gate
    maps = maps + net.conv(maps) * gate
    assert torch.allclose(pruned(images), net.fc(maps.mean((2, 3))), atol=1e-6)


def test_pruned_channels_that_are_zero_change_no_logit():
    net = randomised(built("mobilenet_v2", width=0.2)[0])
    pruned: Any = remove_channels(net, SHAPE, 0.5).net
    masked = copy.deepcopy(net)
    # The widest layer feeds the classifier alone: its lost channels are those of the lost inputs.
    old, new = net.fc.weight, pruned.fc.weight
    lost = [i for i in range(old.shape[1]) if not any(map(old[:, i].equal, new.T))]
    assert len(lost) == old.shape[1] - new.shape[1] > 0
    last = masked.last
    assert isinstance(last[1], nn.BatchNorm2d)
    last[1].weight.data[lost] = last[1].bias.data[lost] = 0
    other = copy.deepcopy(net)
    other.fc.weight.data[:, lost] = 0
    images = torch.randn(2, *SHAPE)
    assert torch.allclose(masked(images), other(images), atol=1e-5)


def test_counts_are_rounded_to_multiples():
    net = built("resnet8", width=1.5)[0]
    pruned = remove_channels(net, SHAPE, 0.4, round_to=8)
    assert {new % 8 for _, new in pruned.channels.values()} == {0}
    assert pruned.channels["stage3.0.body.0"] == (96, 56)


def test_modes_gradients_and_memory_format_stay():
    net = built("resnet8", width=0.5)[0]
    set_memory_format(net, True)
    net.train()
    net.stem[1].eval()
    net.stem[0].weight.requires_grad_(False)
    pruned: Any = remove_channels(net, SHAPE, 0.5).net
    assert is_channels_last(pruned)
    assert [m.training for m in pruned.modules()] == [m.training for m in net.modules()]
    assert [p.requires_grad for p in pruned.parameters()] == [
        p.requires_grad for p in net.parameters()
    ]
    pruned(torch.randn(2, *SHAPE)).sum().backward()
    assert pruned.fc.weight.grad is not None


def test_padded_shortcuts_keep_the_sum_and_lose_the_inside_of_blocks():
    net = randomised(built("resnet8", width=0.5, shortcut="pad")[0])
    pruned = remove_channels(net, SHAPE, 0.5)
    assert list(pruned.channels) == ["stage1.0.body.0", "stage2.0.body.0", "stage3.0.body.0"]
    assert "pads channels" in pruned.left["stem.0"]


def test_shuffled_channels_stay_and_those_inside_of_branches_go():
    net = randomised(built("shufflenet_v2", width=0.2)[0])
    pruned = remove_channels(net, SHAPE, 0.5)
    assert "stage1.1.body.0" in pruned.channels
    assert "a channel shuffle" in pruned.left.values()
    assert count_parameters(pruned.net) < 0.7 * count_parameters(net)


def test_nets_of_grouped_convolutions_and_shuffles_only_are_refused():
    with pytest.raises(kd.UserError, match=r"a grouped convolution \(groups=3\), a channel shuff"):
        remove_channels(built("shufflenet_v1", width=0.2)[0], SHAPE, 0.5)


@pytest.mark.parametrize(
    ("make", "arch"), [(torchvision_net, "mobilenet_v3_small"), (timm_net, "resnet10t")]
)
def test_nets_of_other_libraries_are_pruned(make, arch):
    net = make(1, 32, 10, arch=arch).eval()
    pruned = remove_channels(net, (1, 32, 32), 0.5)
    assert count_parameters(pruned.net) < 0.4 * count_parameters(net)


class Mixing(nn.Module):
    """Channels that are reversed before the classifier reads them, or shifted by one."""

    def __init__(self, mix):
        super().__init__()
        self.conv, self.fc, self.mix = nn.Conv2d(1, 6, 3), nn.Linear(6, 3), mix

    def forward(self, x):
        return self.fc(self.mix(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (lambda x: x.flip(1), "the operation Flip"),
        (lambda x: x.roll(1, 1), "the operation Roll"),
        # Mean, subtraction and ReLU are operations that treat all channels alike elsewhere.
        (lambda x: (x - x.mean(1, keepdim=True)).relu(), "it computes other logits"),
        (lambda x: F.softmax(x, 1), "the operation Softmax"),
    ],
)
def test_nets_that_mix_channels_are_refused(mix, said):
    torch.manual_seed(0)
    with pytest.raises(kd.UserError, match=said):
        remove_channels(Mixing(mix).eval(), SHAPE, 0.5)


def test_a_net_without_hidden_channels_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(kd.UserError, match="pass through no hidden layer"):
        remove_channels(net, SHAPE, 0.5)


def test_a_ratio_that_removes_nothing_is_refused():
    with pytest.raises(kd.UserError, match=r"ratio=0\.01 removes no channel"):
        remove_channels(built("resnet8", width=0.5)[0], SHAPE, 0.01)


@pytest.mark.parametrize(("ratio", "round_to"), [(0, 1), (1.0, 1), (-0.5, 1), (0.5, 0), (0.5, 1.5)])
def test_impossible_settings_are_refused(ratio, round_to):
    with pytest.raises(ValueError, match="must be"):
        remove_channels(nn.Linear(2, 2), SHAPE, ratio, round_to)
