"""Random numbers as a function of place: the same whatever is drawn before, after or beside them.

Everything in a synthetic patient is drawn by hashing (seed, what, lattice site), never by a running generator, so that
a tile looks the same whichever tile was rendered first and however many workers share the slide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_MASK = (1 << 64) - 1


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators)."""
    bits = (bits ^ (bits >> _SHIFTS[0])) * _FIRST
    bits = (bits ^ (bits >> _SHIFTS[1])) * _SECOND
    mixed: NDArray[np.uint64] = bits ^ (bits >> _SHIFTS[2])
    return mixed


def hash_bits(seed: int, *coordinates: ArrayLike) -> NDArray[np.uint64]:
    """64 well-mixed bits for every site.

    Args:
        seed: any integer; different seeds give unrelated bits.
        coordinates: integers, broadcast against each other (negative ones too).

    Returns:
        uint64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        bits = _mix(np.atleast_1d(np.uint64(seed & _MASK)) + _GAMMA)
        for coordinate in coordinates:
            site = np.asarray(coordinate, dtype=np.int64).view(np.uint64)
            bits = _mix((bits ^ (site * _GAMMA)) + _GAMMA)
    return bits


def hash_uniform(seed: int, *coordinates: ArrayLike) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per site; arguments as in ``hash_bits``."""
    return (hash_bits(seed, *coordinates) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hash_normal(seed: int, *coordinates: ArrayLike) -> NDArray[np.float64]:
    """Standard normal numbers, one per site (Box-Muller); arguments as in ``hash_bits``."""
    first = 1.0 - hash_uniform(seed, *coordinates)
    second = hash_uniform(seed ^ 0x5DEECE66D, *coordinates)
    normal: NDArray[np.float64] = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return normal


def subseed(seed: int, *names: int | str) -> int:
    """A seed derived from ``seed`` for something named (strings and integers), unrelated to those of other names."""
    bits = seed & _MASK
    for name in names:
        value = int.from_bytes(name.encode(), "little") if isinstance(name, str) else int(name)
        while True:
            bits = int(hash_bits(bits, np.int64((value & _MASK) - (1 << 63)))[0])
            value >>= 64
            if value in (0, -1):
                break
    return bits
