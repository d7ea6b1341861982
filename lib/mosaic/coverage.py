"""How deep a mosaic is, and where that is not enough.

Depth is relative to a high percentile of the covered pixels, not to the deepest: nine pixels three times as deep would else mask nearly all.
"""

import numpy as np

PERCENTILE = 95.0


def full_depth(counts: dict[int, int]) -> float:
    """The coverage that counts as full: the 95th percentile of covered pixels, from ``{coverage: pixels}``; 0 where nothing is covered.

    >>> full_depth({0: 1000, 4: 100, 12: 1})
    4.0
    """
    values = np.array(sorted(v for v in counts if v > 0), float)
    if not values.size:
        return 0.0
    number = np.array([counts[int(v)] for v in values], float)
    return float(values[np.searchsorted(np.cumsum(number), PERCENTILE / 100.0 * number.sum())])


def histogram(coverage) -> dict[int, int]:
    """``{coverage: pixels}`` of a map of whole numbers."""
    values, number = np.unique(coverage, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, number, strict=True)}


def kept(coverage, depth: float, least: float) -> np.ndarray:
    """(...) bool: pixels whose coverage over ``depth`` is at least ``least``, and at least one image; ``least`` 0 keeps all that are covered."""
    return (np.asarray(coverage) > 0) & (np.asarray(coverage, np.float32) >= np.float32(least * depth))


def box(good) -> tuple[slice, slice]:
    """Rows and columns around the True pixels of (ny, nx); nothing where there is none."""
    rows, columns = np.flatnonzero(good.any(axis=1)), np.flatnonzero(good.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def alpha(coverage, depth: float) -> np.ndarray:
    """(ny, nx) uint8 opacity: 0 where nothing is, 255 at full depth, at least 1 on any pixel with a value."""
    share = np.clip(np.asarray(coverage, np.float32) / np.float32(max(depth, 1.0)), 0.0, 1.0)
    return np.where(np.asarray(coverage) > 0, np.maximum(np.rint(255.0 * share), 1.0), 0.0).astype(np.uint8)
