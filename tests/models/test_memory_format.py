"""Memory format of nets: which are converted, and that values do not depend on it."""

import pytest
import torch
from support import built
from torch import nn

from kd.models.memory_format import is_channels_last, set_memory_format


@pytest.mark.parametrize(
    ("channels_last", "convolutions", "linear"),
    [("auto", True, False), (True, True, False), (False, False, False)],
)
def test_convolutions_are_converted(channels_last, convolutions, linear):
    for net, expected in ((nn.Conv2d(3, 4, 3), convolutions), (nn.Linear(3, 4), linear)):
        set_memory_format(net, channels_last)
        assert is_channels_last(net) is expected


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "densenet121_half"])
def test_images_need_not_be_converted(name):
    """Bit for bit: a convolution with channels-last weights converts its input itself."""
    net, _ = built(name)
    images = torch.randn(2, 1, 8, 8)
    plain = net(images)
    set_memory_format(net, "auto")
    converted = net(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(net(images), converted)
    assert torch.allclose(plain, converted, atol=1e-4)


def test_a_kernel_of_one_pixel_says_nothing():
    assert not is_channels_last(nn.Conv2d(3, 4, 1).to(memory_format=torch.channels_last))
