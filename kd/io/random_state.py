"""Saving and restoring the state of all random number generators."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch (CPU, CUDA, MPS), Python and NumPy.

    It consists of tensors, lists and numbers, which `torch.load(weights_only=True)` accepts.
    """
    version, numbers, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = numpy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": [torch.mps.get_rng_state()] if torch.mps.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": [keys.tolist(), int(position), int(has_gauss), float(cached)],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned.

    Generators of accelerators are left alone if this machine has another number of them.

    Example:
        >>> state = random_state()
        >>> first = random.random(), torch.rand(3).tolist()
        >>> set_random_state(state)
        >>> first == (random.random(), torch.rand(3).tolist())
        True
    """
    # torch.load maps tensors to a device, but generators take their state from the CPU.
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    if state.get("mps") and torch.mps.is_available():
        torch.mps.set_rng_state(state["mps"][0].cpu())
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *rest))
