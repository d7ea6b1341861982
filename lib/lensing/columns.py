"""The lens and source models for the cells of many sources at once, in operations on whole arrays that NumPy and CuPy share.

An array of cells is a column, (cells, 1), one of their nodes (cells, nodes).  ``at`` is the column of the cells' sources, and a
chunk's tables are (columns, sources): ``table[k][at]`` is the k-th number of every cell's source, ready to meet its nodes.  Rows,
constants and formulas are those of ``epl``, ``sie``, ``sersic`` and ``raster``, where they are explained.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.imaging import device
from lib.lensing import deflector, epl, raster, render, sersic, shear, source
from lib.lensing.scene import Rows

EXPONENTIAL = (sersic.E1, sersic.E2, sersic.E3, sersic.E4, sersic.E5)
BRANCH = (sersic.B1, sersic.B2, sersic.B3, sersic.B4, sersic.B5)


@dataclass(frozen=True)
class Chunk:
    """Some sources, in the memory of ``xp``: tables (columns, sources); ``kinds`` (sources, 2) and ``terms`` stay with the host."""

    kinds: np.ndarray
    terms: int
    lenses: Any
    sources: Any
    shapes: Any
    shears: Any
    offsets: Any
    pixels: Any
    images: Any

    @classmethod
    def of(cls, rows: Rows, offsets, pixels, which: slice, xp) -> "Chunk":
        """The sources ``which`` of all ``rows``, ``offsets`` (sources, 3) and ``pixels`` (sources,)."""
        tables = (rows.lenses, rows.sources, rows.shapes, rows.shears, offsets)
        lenses, sources, shapes, shears, offsets = (device.put(np.ascontiguousarray(v[which].T), xp) for v in tables)
        pixels, images = (device.put(v.astype(np.float32), xp) for v in (pixels[which], rows.images))
        terms = int(rows.lenses[which, epl.COUNT].max())
        return cls(rows.kinds[which], terms, lenses, sources, shapes, shears, offsets, pixels, images)


def _angular(c: Chunk, at, x, y):
    """``epl.angular``, and the squared elliptical radius."""
    xp, q, cos_phi, sin_phi, norm = device.namespace(x), *(c.lenses[k][at] for k in (epl.Q, epl.C, epl.S, epl.NORM))
    u, v = q * (cos_phi * x + sin_phi * y), cos_phi * y - sin_phi * x
    radius2 = u * u + v * v + 1e-30
    inverse = 1.0 / xp.sqrt(radius2)
    cos, sin = u * inverse, v * inverse
    twice = 2.0 * (cos * cos - sin * sin)
    b1 = b2 = xp.zeros_like(twice)
    for k in range(epl.FIRST + c.terms, epl.FIRST, -1):
        b1, b2 = c.lenses[k][at] + twice * b1 - b2, b1
    a, b = c.lenses[epl.FIRST][at] + 0.5 * twice * b1 - b2, 2.0 * cos * sin * b1
    au, av = norm * (cos * a - sin * b), norm * (cos * b + sin * a)
    return cos_phi * au - sin_phi * av, sin_phi * au + cos_phi * av, radius2


def bend(kind: int, c: Chunk, at, x, y):
    """Where on the source plane the rays at (x, y) end."""
    xp = device.namespace(x)
    ax, ay, radius2 = _angular(c, at, x, y)
    if kind == deflector.EPL:
        scale = xp.exp2(c.lenses[epl.TILT][at] * (c.lenses[epl.LOG_B][at] - 0.5 * xp.log2(radius2)))
        ax, ay = ax * scale, ay * scale
    gx, gy = shear.deflection(x, y, c.shears[0][at], c.shears[1][at])
    return x - gx - ax, y - gy - ay


def spread(kind: int, c: Chunk, at, x, y, reach):
    """``sie.spread`` and ``epl.spread``."""
    xp, pull = device.namespace(x), c.shears[2][at]
    q, cos_phi, sin_phi, b, tilt = (c.lenses[k][at] for k in (epl.Q, epl.C, epl.S, epl.B, epl.TILT))
    u, v = q * (cos_phi * x + sin_phi * y), cos_phi * y - sin_phi * x
    r, jump = xp.sqrt(u * u + v * v), 2.0 * c.lenses[epl.LARGEST][at]
    near = xp.maximum(r - reach, 1e-12)
    if kind == deflector.SIE:
        return xp.minimum((xp.maximum(1.0, b / near - 1.0) + pull) * reach, (1.0 + pull) * reach + jump)
    ratio = xp.exp2((tilt + 1.0) * xp.log2(b / near + 1e-30))
    bent = xp.abs(tilt) * ratio * c.lenses[epl.LARGEST][at] / xp.maximum(b, 1e-30)
    stretch = xp.maximum(1.0 + bent, (1.0 - tilt) * ratio + bent - 1.0) + pull
    jump = jump * xp.exp2(tilt * xp.log2(b / (r + reach) + 1e-30))
    most = xp.where(tilt <= 0.0, (1.0 + pull) * reach + jump, 1e30)
    return xp.where(r > reach, xp.minimum(stretch * reach, most), most)


def _from_centre(p, at, x, y):
    """(u, v) of points on the source plane, in a Sersic's effective radii or an image's pixels."""
    dx, dy = x - p[sersic.X][at], y - p[sersic.Y][at]
    return p[sersic.UX][at] * dx + p[sersic.UY][at] * dy, p[sersic.VX][at] * dx + p[sersic.VY][at] * dy


def _spline(t):
    """Weights of the four pixels around a place ``t`` beyond the second, of a cubic B-spline."""
    s = 1.0 - t
    return s * s * s / 6.0, 2.0 / 3.0 - t * t * (1.0 - 0.5 * t), 2.0 / 3.0 - s * s * (1.0 - 0.5 * s), t * t * t / 6.0


def _shine_image(c: Chunk, at, u, v):
    """``raster.shine``, from the image's middle."""
    xp, (offset, ny, nx) = device.namespace(u), (c.shapes[k][at] for k in range(3))
    u, v = u + (0.5 * (nx - 1)).astype(u.dtype), v + (0.5 * (ny - 1)).astype(u.dtype)
    inside = (u > 1.0) & (v > 1.0) & (u < nx - 2) & (v < ny - 2)
    u, v = xp.where(inside, u, 1.0).astype(u.dtype), xp.where(inside, v, 1.0).astype(u.dtype)
    ju, jv = xp.floor(u), xp.floor(v)
    start = offset + (jv.astype(nx.dtype) - 1) * nx + ju.astype(nx.dtype) - 1
    across, total = _spline(u - ju), xp.zeros_like(u)
    for i, down in enumerate(_spline(v - jv)):
        for j in range(4):
            total += down * across[j] * c.images[start + i * nx + j]
    return inside * total * c.sources[sersic.POWER][at]


def shine(kind: int, c: Chunk, at, x, y):
    """``source.shine``: brightness of unit flux at places on the source plane."""
    xp, p = device.namespace(x), c.sources
    u, v = _from_centre(p, at, x, y)
    if kind == source.RASTER:
        return _shine_image(c, at, u, v)
    return xp.exp2(p[sersic.LOG_PEAK][at] - p[sersic.FALL][at] * xp.exp2(p[sersic.POWER][at] * xp.log2(u * u + v * v + 1e-30)))


def _order_sersic(c: Chunk, at, x, y, spread, area, phase):
    """``sersic.order``."""
    xp, columns = device.namespace(x), (sersic.LOG_PEAK, sersic.FALL, sersic.POWER, sersic.SCALE, sersic.ROOT)
    peak, fall, power, scale, root = (c.sources[k][at] for k in columns)
    u, v = _from_centre(c.sources, at, x, y)
    radius, wide = xp.sqrt(u * u + v * v), xp.minimum(scale * spread, 1e12)
    near = xp.maximum(radius - wide, 0.0)
    flux = peak + xp.log2(area) - fall * xp.exp2(power * xp.log2(near * near + 1e-30))
    steepest, half = xp.where(power <= 0.5, near, radius + wide), 0.70710678 * wide
    log_half = xp.log2(half + 1e-30)
    slope = 1.3862944 * power * fall * xp.exp2((2.0 * power - 1.0) * xp.log2(steepest + 1e-6))
    change, nearness = xp.log2(slope * half + phase), log_half - xp.log2(radius + 1e-12)
    felt = xp.minimum(xp.log2(fall) + 2.0 * power * log_half, 0.0) + xp.log2(root + 1e-9)
    excess = flux - float(np.log2(render.TOLERANCE))
    need = xp.ones_like(at)
    for k, (e, b) in enumerate(zip(EXPONENTIAL, BRANCH, strict=True), 1):
        need += xp.maximum(2.0 * k * change - float(e), felt + 2.0 * k * nearness + float(b)) + excess > 0.0
    return xp.where(excess < 0.0, 1, need) * (flux >= float(np.log2(render.NEGLIGIBLE)))


def _order_image(c: Chunk, at, x, y, spread, area, phase):
    """``raster.order``."""
    xp, p = device.namespace(x), c.sources
    u, v = _from_centre(p, at, x, y)
    wide = xp.minimum(p[sersic.SCALE][at] * spread, 1e12)
    half = 0.70710678 * wide
    change = xp.log2(raster.STEEP * half + phase)
    excess = p[sersic.LOG_PEAK][at] + xp.log2(area) - float(np.log2(render.TOLERANCE))
    need = xp.ones_like(at)
    for k, e in enumerate(EXPONENTIAL, 1):
        need += excess + 2.0 * k * change > float(e)
    need = xp.where(half > raster.WIDEST, sersic.MOST + 1, need)
    inside = (xp.abs(u) <= 0.5 * c.shapes[2][at] + wide) & (xp.abs(v) <= 0.5 * c.shapes[1][at] + wide)
    return xp.where(excess < 0.0, 1, need) * inside


def points(kinds, c: Chunk, at, x, y, half, half_pix: float, on_grid: bool):
    """Nodes an axis that cells need: 0 if they hold nothing, more than there are if they must be divided."""
    bx, by = bend(kinds[0], c, at, x, y)
    reach = spread(kinds[0], c, at, x, y, 1.41421356 * half)
    order = _order_image if kinds[1] == source.RASTER else _order_sersic
    points = order(c, at, bx, by, reach, 4.0 * half * half, render.PHASE * half_pix if on_grid else 0.0)
    return device.namespace(x).minimum(points, sersic.MOST) if half_pix < render.BLOCK * 2.0 ** (1 - render.DEEPEST) else points
