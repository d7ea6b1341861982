"""What a stamp looks like in a few numbers, for classifiers that are to find nothing.

``zero_*`` are of the pixels less the arc and its noise: what an injection of no flux would leave; ``core_*`` and ``total_*`` of the
pixels as they are.  Fluxes are in units of the stamp's own noise.
"""

import itertools

import numpy as np
import pyarrow as pa

from lib.schemas import BANDS

RINGS = (0.0, 3.0, 5.0, 8.0, 12.0, 20.0, 28.0)  # px
CORE = (0.0, 1.5, 3.0, 5.0)  # px: the host's own light
SKIN = 2  # px: pixels next to the border


def of(zero: np.ndarray, seen: np.ndarray, invvar: np.ndarray, mask: np.ndarray) -> dict[str, pa.Array]:
    """Columns of (n, bands, side, side) stamps, without and with their arcs."""
    n, _, side, _ = zero.shape
    y, x = np.mgrid[:side, :side] - 0.5 * (side - 1)
    r = np.hypot(x, y)
    good = invvar > 0
    sigma = np.sqrt(1.0 / np.maximum(np.nanmedian(np.where(good, invvar, np.nan), axis=(2, 3)), 1e-30))  # of the sky: arcs are small
    zero, seen = (np.where(good, image, 0.0) / sigma[..., None, None] for image in (zero, seen))
    out: dict[str, np.ndarray] = {}
    for k, b in enumerate(BANDS):
        image, weight = zero[:, k], good[:, k]
        for low, high in zip(RINGS, (*RINGS[1:], np.inf), strict=True):
            out[f"zero_ring{low:g}_{b}"] = _mean(image, weight, (r >= low) & (r < high))
        for name, edge in _borders(side).items():
            out[f"zero_{name}_{b}"] = _mean(image, weight, edge) - _mean(image, weight, np.roll(edge, *_inwards(name)))
        step = np.abs(np.diff(image, axis=2))
        out[f"zero_step_{b}"] = np.median(step[:, : side // 4], axis=(1, 2))
        out[f"zero_skin_{b}"] = np.abs(image[:, _ring(side, 0)]).mean(axis=1) - np.abs(image[:, _ring(side, SKIN)]).mean(axis=1)
        out[f"zero_sigma_{b}"] = np.log(sigma[:, k])
        out[f"zero_masked_{b}"] = ((mask >> k) & 1).mean(axis=(1, 2))
        for low, high in itertools.pairwise(CORE):
            out[f"core_{low:g}_{b}"] = _mean(seen[:, k], weight, (r >= low) & (r < high))
        out[f"total_{b}"] = seen[:, k].sum(axis=(1, 2))
    assert all(v.shape == (n,) for v in out.values())
    return {name: pa.array(np.round(v.astype(np.float64), 5)) for name, v in out.items()}  # what undoing the noise leaves is rounding


def _mean(image, weight, where) -> np.ndarray:
    picked = weight[:, where]
    return (image[:, where] * picked).sum(axis=1) / np.maximum(picked.sum(axis=1), 1)


def _ring(side: int, depth: int) -> np.ndarray:
    at = np.arange(side)
    near = np.minimum(at, side - 1 - at)
    return np.minimum.outer(near, near) == depth


def _borders(side: int) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:side, :side]
    return {"top": y == side - 1, "bottom": y == 0, "left": x == 0, "right": x == side - 1}


def _inwards(name: str) -> tuple[int, int]:
    """How a border is moved to the pixels beside it."""
    return {"top": (-1, 0), "bottom": (1, 0), "left": (1, 1), "right": (-1, 1)}[name]
