"""The state of all random number generators survives a checkpoint."""

import io
import random

import numpy as np
import torch

from kd.io.random_state import random_state, set_random_state


def drawn() -> list:
    return [
        torch.rand(3).tolist(),
        torch.randperm(5).tolist(),
        random.gauss(0, 1),
        np.random.standard_normal(3).tolist(),
    ]


def test_a_restored_state_repeats_the_numbers():
    random.gauss(0, 1)  # Python and NumPy keep the second of two Gaussian numbers
    np.random.standard_normal()
    state = random_state()
    first = drawn()
    assert drawn() != first
    set_random_state(state)
    assert drawn() == first


def test_a_state_is_loaded_without_running_code():
    buffer = io.BytesIO()
    torch.save(random_state(), buffer)
    first = drawn()
    buffer.seek(0)
    set_random_state(torch.load(buffer, weights_only=True))
    assert drawn() == first


def test_generators_of_other_accelerators_are_left_alone():
    state = random_state() | {"cuda": [torch.zeros(16, dtype=torch.uint8)] * 99}
    set_random_state(state)
