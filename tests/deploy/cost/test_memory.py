"""Peak memory of nets whose tensors are counted by hand."""

import torch
from torch import nn

from kd.deploy.cost.memory import peak_bytes, tensor_bytes

MIB = 1 << 20


class Branches(nn.Module):
    """Holds `count` copies of its input at the same time."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, images):
        return torch.stack([images + n for n in range(self.count)]).sum()


def test_tensors_that_live_at_the_same_time_are_counted():
    images = torch.zeros(1, 1, 512, 512)  # 1 MiB
    for count in (2, 5):  # as many copies, and once more in the stack
        assert 0 <= peak_bytes(Branches(count), images) - 2 * count * MIB < 1024


def test_tensors_that_follow_each_other_share_memory():
    chain = nn.Sequential(*[nn.Sigmoid() for _ in range(20)])
    images = torch.zeros(1, 1, 512, 512)
    assert 0 <= peak_bytes(chain, images) - 2 * MIB < 1024  # the input and output of one layer
    assert peak_bytes(chain, images) == peak_bytes(chain, images)


def test_weights_are_counted_apart_and_shared_ones_once(capfd):
    layer = nn.Linear(1000, 1000, bias=False)
    assert tensor_bytes(nn.Sequential(layer, layer)) == 4_000_000
    assert tensor_bytes(nn.BatchNorm2d(4)) == 4 * 4 * 4 + 8
    assert peak_bytes(layer, torch.zeros(2, 1000)) < 10_000
    assert capfd.readouterr() == ("", "")
