"""State of all random number generators as plain values."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of all generators as tensors and plain numbers, which are safe to load."""
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
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    if state.get("mps") and torch.mps.is_available():
        torch.mps.set_rng_state(state["mps"][0].cpu())
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *rest))
