"""A source given as an image: a real galaxy's stamp of unit flux, interpolated by cubic B-splines on the source plane.

The spline passes through the pixels (Unser 1999, IEEE SPM 16, 22), is twice differentiable, and integrates to their sum.  The image's
edge must have faded to zero (``lib.sources`` sees to it): beyond it there is nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from lib import jit
from lib.lensing import sersic
from lib.lensing.elementary import f4, log2

STEEP = 1.6  # change of the logarithm of a spline's brightness over a pixel that the number of nodes allows for
WIDEST = 2.0  # pixels of half a cell: a wider one could step over a knot of the spline unseen


@dataclass(frozen=True, eq=False)
class Raster:
    """``image`` (ny, nx), its sum 1, and the radius in its pixels that holds half of its light."""

    image: np.ndarray
    half_light_pix: float

    def __post_init__(self):
        if self.image.ndim != 2 or min(self.image.shape) < 4 or not np.isfinite(self.image).all():
            raise ValueError(f"a source image must be finite, 2-d, 4 px a side or more; got shape {self.image.shape}")
        if abs(self.image.sum(dtype=float) - 1.0) > 1e-3:
            raise ValueError(f"a source image must have the sum 1, got {self.image.sum(dtype=float):g}")

    @cached_property
    def coefficients(self) -> np.ndarray:
        """The spline's coefficients, two zeros around them, so that every node has its 4 x 4."""
        inner = ndimage.spline_filter(np.pad(np.asarray(self.image, float), 2), order=3, mode="mirror")
        return np.pad(inner, 2).astype(np.float32)


def rows(x, y, r_eff, q, phi, half_light_pix, peak) -> np.ndarray:
    """A source's row, in the columns of ``sersic.rows``: ``LOG_PEAK`` of the brightest pixel, ``SCALE`` image pixels an arcsec."""
    out = sersic.rows(x, y, np.ones_like(r_eff), r_eff, q, phi)
    half_light_pix = np.asarray(half_light_pix, float)
    for k in (sersic.UX, sersic.UY, sersic.VX, sersic.VY, sersic.SCALE):
        out[:, k] *= half_light_pix
    out[:, sersic.POWER] = (half_light_pix / r_eff) ** 2  # pixels an arcsec**2
    out[:, sersic.LOG_PEAK] = np.log2(peak * out[:, sersic.POWER])
    return out


@jit.simd()
def shine(p, pixels, shape, x, y, out):
    """Brightness at (x, y), 1/arcsec**2.  ``pixels``: the images of all sources in a row; ``shape``: (offset, ny, nx) of this one's."""
    x0, y0, ux, uy, vx, vy, per_area = p[sersic.X], p[sersic.Y], p[sersic.UX], p[sersic.UY], p[sersic.VX], p[sersic.VY], p[sersic.POWER]
    offset, ny, nx = shape[0], shape[1], shape[2]
    middle_u, middle_v, sixth = f4(0.5 * (nx - 1)), f4(0.5 * (ny - 1)), f4(1.0 / 6.0)
    for i in range(len(x)):
        dx, dy = x[i] - x0, y[i] - y0
        u, v = ux * dx + uy * dy + middle_u, vx * dx + vy * dy + middle_v
        if not (u > f4(1.0) and v > f4(1.0) and u < f4(nx - 2) and v < f4(ny - 2)):
            out[i] = f4(0.0)
            continue
        ju, jv = int(u), int(v)
        s, t = u - f4(ju), v - f4(jv)
        s1, t1 = f4(1.0) - s, f4(1.0) - t
        a0, a3 = s1 * s1 * s1 * sixth, s * s * s * sixth
        a1, a2 = f4(2.0 / 3.0) - s * s * (f4(1.0) - f4(0.5) * s), f4(2.0 / 3.0) - s1 * s1 * (f4(1.0) - f4(0.5) * s1)
        b0, b3 = t1 * t1 * t1 * sixth, t * t * t * sixth
        b1, b2 = f4(2.0 / 3.0) - t * t * (f4(1.0) - f4(0.5) * t), f4(2.0 / 3.0) - t1 * t1 * (f4(1.0) - f4(0.5) * t1)
        at = offset + (jv - 1) * nx + ju - 1
        total = b0 * (a0 * pixels[at] + a1 * pixels[at + 1] + a2 * pixels[at + 2] + a3 * pixels[at + 3])
        at += nx
        total += b1 * (a0 * pixels[at] + a1 * pixels[at + 1] + a2 * pixels[at + 2] + a3 * pixels[at + 3])
        at += nx
        total += b2 * (a0 * pixels[at] + a1 * pixels[at + 1] + a2 * pixels[at + 2] + a3 * pixels[at + 3])
        at += nx
        total += b3 * (a0 * pixels[at] + a1 * pixels[at + 1] + a2 * pixels[at + 2] + a3 * pixels[at + 3])
        out[i] = total * per_area


@jit.simd()
def order(p, shape, x, y, spread, area, phase, tolerance, bound, points):
    """As ``sersic.order``: a cell outside of the image holds nothing; inside, what changes is a spline of its pixels."""
    x0, y0, ux, uy, vx, vy = p[sersic.X], p[sersic.Y], p[sersic.UX], p[sersic.UY], p[sersic.VX], p[sersic.VY]
    half_u, half_v = f4(0.5 * shape[2]), f4(0.5 * shape[1])
    flux = p[sersic.LOG_PEAK] + log2(area)
    excess = flux - log2(tolerance)
    for i in range(len(x)):
        dx, dy = x[i] - x0, y[i] - y0
        u, v = ux * dx + uy * dy, vx * dx + vy * dy
        wide = min(p[sersic.SCALE] * spread[i], f4(1e12))
        half = f4(0.70710678) * wide
        change = log2(f4(STEEP) * half + phase)
        need = f4(1.0)
        need += f4(1.0) if excess + f4(2.0) * change > sersic.E1 else f4(0.0)
        need += f4(1.0) if excess + f4(4.0) * change > sersic.E2 else f4(0.0)
        need += f4(1.0) if excess + f4(6.0) * change > sersic.E3 else f4(0.0)
        need += f4(1.0) if excess + f4(8.0) * change > sersic.E4 else f4(0.0)
        need += f4(1.0) if excess + f4(10.0) * change > sersic.E5 else f4(0.0)
        need = f4(sersic.MOST + 1) if half > f4(WIDEST) else need
        need = f4(1.0) if excess < f4(0.0) else need
        outside = abs(u) > half_u + wide or abs(v) > half_v + wide
        bound[i] = flux
        points[i] = f4(0.0) if outside else need
