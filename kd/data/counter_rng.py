"""Random numbers as pure functions of integers, equal on every device and machine.

Views, sample order and splits are drawn from (data seed, epoch, index) by these functions, never
from a global generator, and so depend neither on the order of batches nor on the model's seed.
"""

from typing import TypeVar

from torch import Tensor

IntLike = TypeVar("IntLike", int, Tensor)
MASK = 0xFFFFFFFF


def mix(x: IntLike) -> IntLike:
    """Scramble 32-bit integers (a bijection), given as a Python int or as int64 [...].

    The rounds and constants are Wellons' "lowbias32" (Hash Function Prospector, 2018), whose output
    bits each flip with probability 0.5 +- 0.0001 when one input bit flips. The second constant is
    written minus 2**32, which leaves the low 32 bits as they are and keeps every product within
    int64.
    """
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * (0x846CA68B - 2**32)) & MASK
    return x ^ (x >> 16)


def stream(*parts: int) -> int:
    """Fold integers (seed, epoch, purpose …; 64 bits each count) into one 32-bit seed."""
    state = len(parts)
    for part in parts:
        for half in (part, part >> 32):
            # 0x9E3779B9 = 2**32 / golden ratio: a zero part still moves the state.
            state = mix((state + 0x9E3779B9 + (half & MASK)) & MASK)
            state ^= half & MASK
    return mix(state)


def hashed(index: Tensor, *parts: int) -> Tensor:
    """32 random bits for every sample int64 [B], as int64; a function of index and parts alone.

    Two keyed rounds: with one, two epochs whose keys agree in the high bits would show the same
    views, permuted among neighbouring images.
    """
    once = mix((index + stream(*parts, 0)) & MASK)
    return mix((once + stream(*parts, 1)) & MASK)
