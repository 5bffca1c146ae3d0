"""Small nets of each family for the tests of channel pruning."""

import torch
from support import present
from torch import nn

SHAPE = (1, 8, 8)
# One net a family, with arguments that make it small
FAMILIES = {
    "resnet8": {"width": 0.5},
    "resnet18": {"width": 0.05},
    "resnet50": {"width": 0.03},
    "wrn_16_1": {"width": 0.5},
    "vgg8": {"width": 0.05},
    "vgg16": {"width": 0.05, "pools": 3},
    "mobilenet_v2": {"width": 0.2},
    "mlp800": {"width": 0.1},
    "lightnn": {},
    "deepnn": {"width": 0.1},
}


def randomised(net):
    """A net whose batch norms are those of a trained one: no channel is scaled as another."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, present(module.running_mean)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
    return net
