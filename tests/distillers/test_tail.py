"""Tails of nets: equal to the whole net, or refused."""

import pytest
import torch
from support import built
from torch import nn

from kd.distillers.tail import tail_of
from kd.errors import UserError

NETS = {"resnet8": {"width": 0.5}, "vgg8": {"width": 0.125}, "mobilenet_v2": {"width": 0.25}}
NETS |= {"mlp800": {"width": 0.05}, "lightnn": {}}


@pytest.mark.parametrize("name", NETS)
def test_tail_reproduces_the_logits_of_the_whole_net(name):
    net, tap_paths = built(name, **NETS[name])
    images, others = torch.randn(3, 1, 8, 8), torch.randn(4, 1, 8, 8)
    features = {}
    for tap, path in tap_paths.items():
        module = net.get_submodule(path.removesuffix(":in"))
        if path.endswith(":in"):
            module.register_forward_pre_hook(
                lambda module, inputs, tap=tap: features.update({tap: inputs[0]})
            )
        else:
            module.register_forward_hook(
                lambda module, inputs, output, tap=tap: features.update({tap: output})
            )
    with torch.no_grad():
        expected = net(others)
    recorded = dict(features)
    sizes = []
    for tap in tap_paths:
        tail = tail_of(net, tap_paths, tap, images).eval()
        with torch.no_grad():
            assert tail(recorded[tap]).equal(expected), tap
        assert tail.net.state_dict().keys() < net.state_dict().keys()
        sizes.append(sum(p.numel() for p in tail.parameters()))
    assert sizes == sorted(sizes, reverse=True)  # the later the tap, the smaller the tail


class Skipping(nn.Module):
    """A net whose last layer reads two of the taps."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first, self.second, self.last = nn.Linear(64, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, images):
        first = self.first(self.flatten(images))
        return self.last(first + self.second(first))


def test_tap_beside_a_shortcut_is_refused():
    tap_paths = {"one": "first", "two": "second", "three": "last:in", "four": "last"}
    net, images = Skipping(), torch.randn(2, 1, 8, 8)
    for tap in ("two", "four"):
        with pytest.raises(
            UserError, match=f"branch_at={tap}: .*taps of this net that work: one, three"
        ):
            tail_of(net, tap_paths, tap, images)
    assert [name for name, _ in tail_of(net, tap_paths, "one", images).net.named_parameters()] == [
        *("second.weight", "second.bias", "last.weight", "last.bias")
    ]


def test_shortcut_of_a_pre_activation_block_is_found():
    """A pre-activation block that keeps its width adds the tensor before its first ReLU."""
    net, tap_paths = built("wrn_16_1")
    with pytest.raises(UserError, match="that work: stage1, stage2, stage3, embedding"):
        tail_of(net, tap_paths, "stem", torch.randn(2, 1, 8, 8))
