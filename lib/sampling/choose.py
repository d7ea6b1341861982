"""The first N of many hashed keys that lie in pieces: their last key, exactly, by one histogram and one look into its boundary bin."""

from collections.abc import Callable, Iterable

import numpy as np

TOP = np.uint64(48)  # a key's bin is its highest 16 bits
Keys = dict[str, np.ndarray]  # group -> uint64


def last_keys(over: Callable[[Callable], Iterable], keys: Callable[..., Keys], wanted: dict[str, int]) -> dict[str, int]:
    """For each group the N-th smallest of its keys, N being ``wanted``; groups of which none is wanted are left out.

    ``over`` applies a function to every piece; ``keys`` gives a piece's keys.
    """
    histogram = {g: np.zeros(1 << 16, np.int64) for g in wanted}
    for counted in over(lambda piece: _count(keys(piece))):
        for group, (bins, numbers) in counted.items():
            histogram[group][bins] += numbers
    edges, left = {}, {}
    for group, number in wanted.items():
        if not number:
            continue
        below = np.cumsum(histogram[group])
        if below[-1] < number:
            raise ValueError(f"{group}: {below[-1]} keys, {number} wanted")
        edges[group] = int(np.searchsorted(below, number))
        left[group] = number - (int(below[edges[group] - 1]) if edges[group] else 0)
    found: dict[str, list] = {g: [] for g in edges}
    for inside in over(lambda piece: _inside(keys(piece), edges)):
        for group, some in inside.items():
            found[group].append(some)
    return {g: int(np.sort(np.concatenate(found[g]))[left[g] - 1]) for g in edges}


def _count(keys: Keys):
    return {g: np.unique((k >> TOP).astype(np.int64), return_counts=True) for g, k in keys.items()}


def _inside(keys: Keys, edges: dict[str, int]):
    return {g: k[(k >> TOP).astype(np.int64) == edges[g]] for g, k in keys.items() if g in edges}


def chosen(keys: np.ndarray, last: int | None) -> np.ndarray:
    """Which of a group's keys are among its first."""
    return np.zeros(keys.shape, bool) if last is None else keys <= np.uint64(last)


def turns(keys: np.ndarray) -> np.ndarray:
    """Keys (galaxies, rows of each) that take every galaxy once before any twice: the turn in the upper 6 bits, from the 64th on by chance."""
    turn = np.argsort(np.argsort(keys, axis=1), axis=1).astype(np.uint64)
    return (np.minimum(turn, np.uint64(63)) << np.uint64(58)) | (keys >> np.uint64(6))
