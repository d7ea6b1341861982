"""Where the lattice's pixels lie in an image: exact positions on a coarse grid, cubic between, the error measured.

Nearly all of a reprojection's time is the WCS.  A distortion is smooth: exact positions at nodes 64 px apart and the cubic through
four of them (Lagrange, error 3/128 step**4 of the fourth derivative) are as good as the WCS itself.  Nodes lie at multiples of the step on
the whole lattice, so every window of it gets the same positions, bit for bit.
"""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from lib.mosaic.lattice import Lattice, Window, footprint, pixel_of, sky_of

TOLERANCE_PIX = 1e-4
STEPS = (64, 32, 16, 8, 4, 1)  # px between nodes; at 1 every pixel is one: the exact positions
PROBES = 4096  # cells whose middle is measured
REACH_PIX = 8.0  # outside the image by more, a position's error does not matter
ALIGNED_PIX = 1e-5  # nearer to whole pixels everywhere, an image is on the lattice


@dataclass(frozen=True)
class Mapping:
    """Positions in an image at nodes: ``x`` and ``y`` (rows, columns) float64; node [0, 0] is the lattice's pixel (row0, col0) * step.

    ``window`` is the box of the lattice that the image meets.  ``shift`` (dy, dx) is set if the image lies on the lattice: its pixel is the
    lattice's minus the shift.  ``area`` (rows, columns): image pixels on one of the lattice.
    """

    window: Window
    step: int
    row0: int
    col0: int
    x: np.ndarray
    y: np.ndarray
    area: np.ndarray
    error_pix: float
    shift: tuple[int, int] | None = None


def of(lattice: Lattice, wcs: WCS, shape: tuple[int, int], tolerance_pix: float = TOLERANCE_PIX) -> Mapping | None:
    """The mapping of an image of ``shape`` (ny, nx), or None if it does not meet the lattice."""
    window = footprint(lattice, wcs, shape)
    if window.empty:
        return None
    made = None
    for step in STEPS:
        made = _nodes(lattice, wcs, shape, window, step)
        if made.error_pix <= tolerance_pix:
            break
    return made


def _nodes(lattice, wcs, shape, window, step) -> Mapping:
    row0, col0 = window.y0 // step - 1, window.x0 // step - 1
    rows = np.arange(row0, (window.y1 - 1) // step + 3) * step
    columns = np.arange(col0, (window.x1 - 1) // step + 3) * step
    gx, gy = np.meshgrid(columns.astype(float), rows.astype(float))
    x, y = positions(lattice, wcs, gx, gy)
    half = 0.5
    xe, ye = positions(lattice, wcs, gx + half, gy)
    xw, yw = positions(lattice, wcs, gx - half, gy)
    xn, yn = positions(lattice, wcs, gx, gy + half)
    xs, ys = positions(lattice, wcs, gx, gy - half)
    area = np.abs((xe - xw) * (yn - ys) - (xn - xs) * (ye - yw))
    dx, dy = gx - x, gy - y
    shift = (round(float(np.median(dy))), round(float(np.median(dx))))
    aligned = max(np.abs(dx - shift[1]).max(), np.abs(dy - shift[0]).max()) < ALIGNED_PIX
    made = Mapping(window, step, row0, col0, x, y, area, 0.0, shift if aligned else None)
    return made if step == 1 or aligned else Mapping(*(*_fields(made)[:7], _error(made, lattice, wcs, shape), None))


def _fields(mapping: Mapping) -> tuple:
    return tuple(getattr(mapping, name) for name in Mapping.__dataclass_fields__)


def positions(lattice: Lattice, wcs: WCS, x, y):
    """Exact positions in an image of pixels of the lattice; where the distortion has no inverse, far outside the image, those of its linear part."""
    ra, dec = sky_of(lattice.wcs, x.ravel(), y.ravel())
    found = pixel_of(wcs, ra, dec)
    lost = ~(np.isfinite(found[0]) & np.isfinite(found[1]))
    if lost.any():
        with np.errstate(invalid="ignore"):
            rough = wcs.wcs_world2pix(np.nan_to_num(ra[lost]), np.nan_to_num(dec[lost]), 0)
        for axis in (0, 1):
            found[axis][lost] = np.where(np.isfinite(rough[axis]), rough[axis], -1e6)
    return found[0].reshape(x.shape), found[1].reshape(x.shape)


def lagrange(t):
    """Weights of the cubic through values at -1, 0, 1 and 2, at ``t`` in [0, 1].

    >>> lagrange(0.0)
    (-0.0, 1.0, 0.0, -0.0)
    """
    u, v, w = t + 1.0, t - 1.0, t - 2.0
    return -t * v * w / 6.0, u * v * w / 2.0, -u * t * w / 2.0, u * t * v / 6.0


def _between(nodes, rows, columns, ty, tx):
    total = 0.0
    for j, wy in enumerate(lagrange(ty)):
        for i, wx in enumerate(lagrange(tx)):
            total = total + wy * wx * nodes[rows + j - 1, columns + i - 1]
    return total


def _error(mapping: Mapping, lattice, wcs, shape) -> float:
    """The largest error in the middles of the cells that see the image, where the cubic is worst."""
    step = mapping.step
    rows, columns = (
        v.ravel() for v in np.meshgrid(np.arange(1, mapping.x.shape[0] - 2), np.arange(1, mapping.x.shape[1] - 2), indexing="ij")
    )
    every = max(1, len(rows) // PROBES)
    rows, columns = rows[::every], columns[::every]
    worst = 0.0
    for ty, tx in ((0.5, 0.5), (0.25, 0.5), (0.5, 0.75)):
        gx, gy = (mapping.col0 + columns + tx) * step, (mapping.row0 + rows + ty) * step
        x, y = positions(lattice, wcs, gx, gy)
        off = np.maximum(np.abs(_between(mapping.x, rows, columns, ty, tx) - x), np.abs(_between(mapping.y, rows, columns, ty, tx) - y))
        ny, nx = shape
        seen = (x > -REACH_PIX) & (x < nx + REACH_PIX) & (y > -REACH_PIX) & (y < ny + REACH_PIX)
        worst = max(worst, float(off[seen].max(initial=0.0)))
    return worst
