"""Random numbers by counter: a function of (seed, row key, purpose) and of nothing else.

Never of a partition, an order or the clock: the same row draws the same numbers on 2 cores and on 2,000.
"""

import hashlib

import numpy as np
from scipy import special

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z):
    """The splitmix64 finaliser (Steele, Lea & Flood 2014): a bijection of 64-bit words."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _word(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def hash64(purpose: str, seed: int, *keys):
    """A 64-bit hash of integer keys (arrays broadcast), one independent stream a purpose."""
    keys = np.broadcast_arrays(*[np.asarray(k).astype(np.int64).view(np.uint64) for k in keys])
    with np.errstate(over="ignore"):
        z = _mix(_word(f"{seed}/{purpose}") + GOLDEN) * np.ones(keys[0].shape, np.uint64)
        for key in keys:
            z = _mix((z + GOLDEN) ^ _mix(key + GOLDEN))
    return z


def uniform(purpose: str, seed: int, *keys, low=0.0, high=1.0):
    """Uniform float64 in [low, high), 53 bits."""
    u = (hash64(purpose, seed, *keys) >> np.uint64(11)).astype(float) * 2.0**-53
    return low + (high - low) * u


def normal(purpose: str, seed: int, *keys, mean=0.0, sigma=1.0):
    """Normal float64, by the inverse of its distribution."""
    u = uniform(purpose, seed, *keys)
    return mean + sigma * special.ndtri(u + 2.0**-54)
