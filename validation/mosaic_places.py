"""Where stars are: in a frame by its own WCS, and in the mosaic by the file's."""

import numpy as np
from scipy import ndimage

from lib.frames.engine import Input, Where

BRIGHT_SIGMA, SMOOTH_PIX = 10.0, 25  # a star's peak over what is smooth around it
REACH_PIX, WINDOW_PIX = 6, 1.6
LEAST, MOST = 10, 300  # stars of an image that are looked at
KNOWN_PX = 0.03  # a median that is known no better, by its stars' scatter, counts less, as much


def apart(science, counts, wcs, images: list[Input], where: Where) -> dict[str, tuple[float, int]]:
    """``{image: (median shift of its stars in px of the mosaic, stars)}`` in a tile, ``science`` (planes, ny, nx) with its file's WCS.

    Only where ``counts`` (ny, nx) tells of two frames or more: one alone is the mosaic, wherever it lies.
    """
    mosaic, found = np.where(counts >= 2, _above(science), np.float32(np.nan)), {}
    for one in images:
        noise, shifts = float(np.linalg.norm(one.sigma)) / len(one.sigma), []
        for x, y in _stars(_above(one.load(where).pixels), noise):
            u, v = (float(w) for w in wcs.all_world2pix(*one.wcs.all_pix2world(x, y, 0), 0))
            there = _centroid(mosaic, u, v)
            if there is not None:
                shifts.append((there[0] - u, there[1] - v))
        if len(shifts) >= LEAST:
            middle = np.median(shifts, axis=0)
            scatter = 1.4826 * np.median(np.abs(shifts - middle), axis=0).max()
            known = 1.25 * float(scatter) / len(shifts) ** 0.5
            found[one.name] = float(np.hypot(*middle)) * min(1.0, KNOWN_PX / max(known, 1e-9)), len(shifts)
    return found


def _above(planes) -> np.ndarray:
    """The mean of the planes without what is smooth; near 0 where it is bad."""
    plane = planes.mean(axis=0)
    filled = np.where(np.isfinite(plane), plane, np.nanmedian(plane) if np.isfinite(plane).any() else 0.0).astype(np.float32)
    return filled - ndimage.median_filter(filled[::4, ::4], SMOOTH_PIX // 4).repeat(4, 0).repeat(4, 1)[: plane.shape[0], : plane.shape[1]]


def _stars(plane, sigma: float) -> list[tuple[float, float]]:
    top = (ndimage.maximum_filter(plane, 2 * REACH_PIX + 1) == plane) & (plane > BRIGHT_SIGMA * sigma)
    y, x = np.nonzero(top & (ndimage.uniform_filter(plane, 3) > 0.4 * plane))  # light of one pixel alone is a ray
    at = np.argsort(-plane[y, x], kind="stable")[:MOST]
    found = [_centroid(plane, float(x[k]), float(y[k])) for k in at]
    return [f for f in found if f is not None]


def _centroid(plane, x: float, y: float, rounds: int = 12) -> tuple[float, float] | None:
    """The mean under a Gaussian window that follows it, from a place on; None at an edge, or where it walks away."""
    i, j = (round(v) if np.isfinite(v) else -1 for v in (x, y))
    if not (REACH_PIX <= i < plane.shape[1] - REACH_PIX and REACH_PIX <= j < plane.shape[0] - REACH_PIX):
        return None
    cut = plane[j - REACH_PIX : j + REACH_PIX + 1, i - REACH_PIX : i + REACH_PIX + 1]
    gy, gx = np.mgrid[-REACH_PIX : REACH_PIX + 1, -REACH_PIX : REACH_PIX + 1]
    u, v = x - i, y - j
    for _ in range(rounds):
        light = cut * np.exp(-((gx - u) ** 2 + (gy - v) ** 2) / (2 * WINDOW_PIX**2))
        if not light.sum() > 0:
            return None
        u, v = u + 2 * (light * (gx - u)).sum() / light.sum(), v + 2 * (light * (gy - v)).sum() / light.sum()
        if not abs(u - x + i) < 1.5 or not abs(v - y + j) < 1.5:
            return None
    return i + u, j + v
