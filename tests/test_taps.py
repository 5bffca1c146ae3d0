"""Taps record the right tensors, whole, and leave the net as it was."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kd.errors import UserError
from kd.taps import Taps

PLACES = {"stage1": "conv", "stage2": "act", "embedding": "fc:in"}


class Net(nn.Module):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.act = nn.ReLU(inplace=inplace)
        self.unused = nn.Identity()
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))


def test_taps_are_what_the_modules_saw(images):
    net = Net()
    outputs = Taps(net, PLACES, PLACES).outputs(images)
    maps = net.conv(images)
    torch.testing.assert_close(outputs.taps["stage1"], maps)
    torch.testing.assert_close(outputs.taps["stage2"], maps.relu())
    torch.testing.assert_close(outputs.taps["embedding"], maps.relu().mean((2, 3)))
    torch.testing.assert_close(outputs.logits, net(images))


def test_only_what_is_wanted_is_recorded_and_nothing_is_kept(images):
    taps = Taps(Net(), PLACES, ["stage2", "stage2"])
    assert list(taps.outputs(images).taps) == ["stage2"]
    assert not taps._store


def test_a_tap_before_an_in_place_activation_is_copied(images):
    net = Net(inplace=True)
    taps = Taps(net, PLACES, ["stage1"])
    assert (taps.outputs(images).taps["stage1"] >= 0).all()  # overwritten
    probed = taps.probe(images).taps["stage1"]
    torch.testing.assert_close(probed, net.conv(images))
    torch.testing.assert_close(taps.outputs(images).taps["stage1"], net.conv(images))


def test_probe_leaves_no_mark(images):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3))
    before = copy.deepcopy(net.state_dict())
    outputs = Taps(net, {"stage1": "1"}, ["stage1"]).probe(images)
    assert net.training
    assert not outputs.logits.requires_grad
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_tapped_net_can_be_pickled_and_copied(images):
    net = Net()
    taps = Taps(net, PLACES, ["stage1"])
    expected = taps.outputs(images).logits
    for clone in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        torch.testing.assert_close(clone(images), expected)


@pytest.mark.parametrize(
    ("tap_paths", "wanted", "message"),
    [
        (PLACES, "stage3", "no tap 'stage3' in this net; did you mean 'stage"),
        ({"stage1": "cnov"}, "stage1", "names the module 'cnov'.*did you mean 'conv'"),
    ],
)
def test_unknown_names_get_the_nearest(tap_paths, wanted, message):
    with pytest.raises(UserError, match=message):
        Taps(Net(), tap_paths, [wanted])


def test_a_module_that_does_not_run_is_named(images):
    taps = Taps(Net(), {"stage1": "unused"}, ["stage1"])
    with pytest.raises(UserError, match=r"stage1.*does not run"):
        taps.probe(images)
