"""MACs of nets whose layers are multiplied out by hand."""

import torch
from torch import nn

from kd.deploy.cost.macs import count_macs
from kd.models.resnet_cifar import resnet_cifar
from kd.models.tutorial_cnn import lightnn


def test_macs_of_lightnn():
    # Output positions × output channels × inputs of each, layer by layer
    convolutions = 32 * 32 * 16 * (3 * 9) + 16 * 16 * 16 * (16 * 9)
    linear = (16 * 8 * 8) * 256 + 256 * 10
    net = lightnn(3, 32, 10).eval()
    assert count_macs(net, torch.zeros(1, 3, 32, 32)) == convolutions + linear == 1_296_896
    assert count_macs(net, torch.zeros(4, 3, 32, 32)) == 4 * 1_296_896


def test_macs_of_resnet20():
    # 40.55 M without the projections, the figure of the literature for a ResNet-20 on CIFAR-10
    stem = 32 * 32 * 16 * (3 * 9)
    first = 6 * 32 * 32 * 16 * (16 * 9)
    second = 16 * 16 * 32 * (16 * 9) + 5 * 16 * 16 * 32 * (32 * 9)
    third = 8 * 8 * 64 * (32 * 9) + 5 * 8 * 8 * 64 * (64 * 9)
    projections = 16 * 16 * 32 * 16 + 8 * 8 * 64 * 32
    by_hand = stem + first + second + third + 64 * 10
    assert round(by_hand / 1e6, 2) == 40.55
    net, image = resnet_cifar(3, 32, 10, depth=20).eval(), torch.zeros(1, 3, 32, 32)
    assert count_macs(net, image) == by_hand + projections
    assert count_macs(resnet_cifar(3, 32, 10, depth=20, shortcut="pad").eval(), image) == by_hand


def test_grouped_convolutions_and_attention_are_counted():
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert count_macs(depthwise, torch.zeros(1, 8, 4, 4)) == 4 * 4 * 8 * 9
    query = torch.zeros(1, 2, 5, 4)  # heads 2, tokens 5, width 4: scores and weighted values
    attention = nn.functional.scaled_dot_product_attention
    assert count_macs(lambda x: attention(x, x, x), query) == 2 * (2 * 5 * 5 * 4)
