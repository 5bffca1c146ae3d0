"""Quantization-aware training: the integers of onnxruntime, and what training gains."""

import copy

import numpy as np
import pytest
import torch
from support import built, present
from torch import nn
from torch.nn import functional as F

from kd.data.digits import Digits
from kd.deploy.compression.fake_quantise import (
    fake_quantise,
    fake_quantise_weight,
    finish,
    plain_layers,
    quantised_layers,
    ranges,
    restore_ranges,
    weight_scales,
)
from kd.errors import UserError
from kd.taps import Taps


def integers_of_onnxruntime(weight):
    from onnxruntime.quantization.quant_utils import QuantType, quantize_data

    # Per channel, as `quantize_static(per_channel=True)` calls it on the first axis
    found = [quantize_data(w.numpy(), QuantType.QInt8.tensor_type, symmetric=True) for w in weight]
    return np.stack([np.asarray(each[-1]).reshape(weight.shape[1:]) for each in found])


@pytest.mark.parametrize("folded", [False, True])
def test_integers_equal_those_of_onnxruntime(folded):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(5, 7, 3, bias=False), nn.BatchNorm2d(7)
    with torch.no_grad():
        gamma, variance = norm.weight.uniform_(0.3, 2), present(norm.running_var).uniform_(0.1, 3)
        weight = conv.weight.detach()
        ours = fake_quantise_weight(weight) / weight_scales(weight)[:, None, None, None]
        if folded:
            factor = gamma / (variance + norm.eps).sqrt()
            weight = weight * factor[:, None, None, None]
    np.testing.assert_array_equal(ours.round().int().numpy(), integers_of_onnxruntime(weight))


def test_rounded_weights_stay_when_they_are_rounded_again():
    weight = fake_quantise_weight(torch.randn(6, 4, 3, 3))
    torch.testing.assert_close(fake_quantise_weight(weight), weight, rtol=1e-6, atol=0)


def test_gradients_pass_the_rounding():
    weight = torch.randn(3, 4, requires_grad=True)
    (fake_quantise_weight(weight, bits=2) * torch.arange(12.0).view(3, 4)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.arange(12.0).view(3, 4))


def test_a_channel_of_zeros_stays_zero():
    weight = torch.zeros(2, 3, requires_grad=True)
    fake_quantise_weight(weight).sum().backward()
    assert torch.equal(fake_quantise_weight(weight), torch.zeros(2, 3))
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_inputs_take_256_values_of_the_range_and_zero_is_one_of_them():
    net = fake_quantise(nn.Sequential(nn.Linear(1, 1)))
    inputs = torch.linspace(-1, 3, 5000)[:, None]
    seen = []
    net.get_submodule("0.input_range").register_forward_hook(
        lambda _m, _i, output: seen.append(output)
    )
    net(inputs)
    assert len(seen[0].unique()) == 256
    assert (seen[0] - inputs).abs().max() <= 4 / 255 / 2 + 1e-6
    net.eval()
    net(torch.zeros(1, 1))
    assert seen[1].item() == 0
    net(torch.tensor([[50.0]]))  # beyond the range: the largest value
    assert seen[2].item() == pytest.approx(3, abs=0.02)


def test_ranges_follow_training_only_and_stand_still_when_frozen():
    net = fake_quantise(nn.Sequential(nn.Linear(1, 1)))
    net(torch.tensor([[1.0]]))
    assert ranges(net)["0"].tolist() == [0, 1]
    net(torch.tensor([[2.0]]))
    assert ranges(net)["0"].tolist() == pytest.approx([0, 1.01])
    net.eval()(torch.tensor([[9.0]]))
    for _, layer in quantised_layers(net.train()):
        layer.input_range.observing = False
    net(torch.tensor([[9.0]]))
    assert ranges(net)["0"].tolist() == pytest.approx([0, 1.01])
    other = fake_quantise(nn.Sequential(nn.Linear(1, 1)))
    restore_ranges(other, ranges(net))
    assert ranges(other)["0"].tolist() == ranges(net)["0"].tolist()


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "vgg8", "lightnn", "mlp800"])
def test_keys_paths_and_taps_stay(name):
    torch.manual_seed(0)
    net, taps = built(name)
    before, modules = net.state_dict(), [path for path, _ in net.named_modules()]
    expected = {path: tensor.clone() for path, tensor in before.items()}
    images = torch.randn(4, 1, 8, 8)
    logits = net(images)
    recorded = Taps(net, taps, taps).outputs(images).taps
    fake_quantise(net)
    again = Taps(net, taps, taps).outputs(images).taps
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in recorded.items()}
    assert list(net.state_dict()) == list(expected)
    torch.testing.assert_close(net.state_dict(), expected)
    # 8 bits change the logits, but little: signal to noise above 20 dB after up to 53 layers
    assert 0 < (net(images) - logits).std() < 0.1 * logits.std()
    plain_layers(net)
    assert [path for path, _ in net.named_modules()] == modules
    assert not list(quantised_layers(net))


def test_the_saved_weights_compute_what_was_trained():
    net = fake_quantise(built("resnet8")[0], bits=4)
    images = torch.randn(4, 1, 8, 8)
    finish(net)
    plain, _ = built("resnet8")
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(plain(images), net(images))
    torch.testing.assert_close(plain_layers(net)(images), plain(images))
    values = plain.state_dict()["stem.0.weight"]
    assert all(len(channel.unique()) <= 15 for channel in values)


def test_copies_are_quantised_as_well():
    net = fake_quantise(built("resnet8")[0], bits=3)
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(copy.deepcopy(net)(images), net(images))


def test_a_net_without_such_layers_is_refused():
    with pytest.raises(UserError, match="quantise=int8: Flatten has no convolution or linear"):
        fake_quantise(nn.Flatten())


def test_training_recovers_what_rounding_to_two_bits_loses():
    torch.manual_seed(0)
    data = Digits(name="digits", batch_size=64)
    data.prepare_data()
    data.setup()
    layers = nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    net = nn.Sequential(*layers)
    train(net, data, epochs=6, lr=0.05)
    exact = accuracy(net, data)
    rounded = fake_quantise(copy.deepcopy(net), bits=2)
    for batch in data.train_dataloader():  # ranges alone: no step of training
        rounded.train()(batch.input)
    after_training = accuracy(rounded, data)
    trained = fake_quantise(net, bits=2)
    train(trained, data, epochs=6, lr=0.05)
    assert exact > 0.9
    assert after_training < exact - 0.1
    assert accuracy(trained, data) > after_training + 0.08


def train(net, data, epochs, lr):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            F.cross_entropy(net(batch.input), batch.target).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(net, data):
    net.eval()
    right = [net(batch.input).argmax(1) == batch.target for batch in data.test_dataloader()]
    return torch.cat(right).float().mean().item()
