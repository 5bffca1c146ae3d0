"""Stratified splits and channel statistics."""

import pytest
import torch
from small_data import Given, arrays, ready

from kd.data.splits import channel_statistics, stratified_split


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_each_class_gets_its_rounded_share(fraction):
    counts = [1, 2, 7, 33, 118, 500]
    shuffled = torch.arange(6).repeat_interleave(torch.tensor(counts))[torch.randperm(661)]
    kept, held = stratified_split(shuffled, fraction, 0)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(661))
    assert torch.equal(held, held.sort().values)
    assert torch.equal(kept, kept.sort().values)
    shares = [min(int(n * fraction + 0.5), n - 1) for n in counts]
    assert torch.bincount(shuffled[held], minlength=6).tolist() == shares


def test_every_sample_is_held_out_equally_often():
    targets = torch.arange(2).repeat_interleave(torch.tensor([20, 30]))
    held = torch.cat([stratified_split(targets, 0.2, seed)[1] for seed in range(1000)])
    counts = torch.bincount(held, minlength=50)
    assert int(counts.min()) > 140  # 200 expected, standard deviation 13
    assert int(counts.max()) < 260


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_the_training_split(channels):
    data = ready(Given(arrays(channels=channels)))
    pixels = data.arrays.train_inputs[data.split.train].double() / 255
    torch.testing.assert_close(data.split.mean, pixels.mean((0, 2, 3)), rtol=0, atol=1e-14)
    expected = pixels.std((0, 2, 3), correction=0)
    torch.testing.assert_close(data.split.std, expected, rtol=0, atol=1e-14)
    whole = torch.cat([batch.input for batch in plain(data)])
    assert abs(float(whole.mean())) < 1e-6
    assert abs(float(whole.std(correction=0)) - 1) < 1e-6


def plain(data):
    loader = data.train_dataloader()
    loader.sampler.drop_last = False
    return loader


def test_a_constant_channel_is_normalised_to_zeros():
    images = torch.full((10, 1, 2, 2), 77, dtype=torch.uint8)
    mean, std = channel_statistics(images, torch.arange(10))
    assert (mean.item(), std.item()) == (77 / 255, 1 / 255)
