"""Figure of a teacher's softened probabilities: the numbers, and any number of classes."""

import numpy as np
import pytest
import torch

from kd.plots.dark_knowledge import dark_knowledge, entropy_bits, soften
from kd.plots.figure import render

LOGITS = torch.tensor([[4.0, 1.0, -2.0], [0.0, 3.0, 2.5], [1.0, 1.0, 1.0], [0.0, 0.0, 900.0]])


@pytest.mark.parametrize("temperature", [1, 2, 20])
def test_softened_probabilities_and_entropy_match_torch(temperature):
    softened = soften(LOGITS.double().numpy(), temperature)
    expected = torch.softmax(LOGITS.double() / temperature, 1)
    assert np.allclose(softened, expected.numpy())
    bits = torch.distributions.Categorical(expected).entropy() / np.log(2)
    assert np.allclose(entropy_bits(softened), bits.numpy())


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (10, 3), (30, 3)])
def test_any_number_of_classes_can_be_drawn(classes, channels):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (2, channels, 8, 8)).astype(np.uint8)
    names = [f"class {n}" for n in range(classes)]
    spec = dark_knowledge(images, [0, 1], draw.normal(size=(2, classes)), names)
    pixels = render(spec.draw)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.std() > 5  # not blank
