"""Elliptical Sersic profile of unit total flux (Graham & Driver 2005, PASA 22, 118).

The area inside ``r_eff`` is ``pi r_eff**2`` for every axis ratio (circularised effective radius), half of the
flux lies in it, and the flux to infinity is exactly 1.
"""

import numpy as np
from scipy import special

from lib import jit
from lib.lensing.elementary import exp2, f4, log2


def b_n(n):
    """The ``b`` that puts half of the light inside ``r_eff``: the median of Gamma(2n), solved exactly.

    >>> round(float(b_n(1.0)), 8), round(float(b_n(4.0)), 6)
    (1.67834699, 7.669249)
    """
    return special.gammaincinv(2.0 * np.asarray(n, float), 0.5)


def central_brightness(n, r_eff):
    """Brightness at the centre, 1/arcsec**2, of a profile of unit flux."""
    b = b_n(n)
    log_gamma = special.gammaln(2.0 * np.asarray(n, float))
    return np.exp(2.0 * n * np.log(b) - log_gamma) / (2.0 * np.pi * n * np.square(r_eff))


def radius(x, y, q=1.0, phi=0.0):
    """Elliptical radius ``sqrt(q u**2 + v**2 / q)``, u along the major axis."""
    c, s = np.cos(phi), np.sin(phi)
    return np.hypot(np.sqrt(q) * (c * x + s * y), (c * y - s * x) / np.sqrt(q))


def brightness(x, y, n, r_eff, q=1.0, phi=0.0):
    """Surface brightness in 1/arcsec**2 at (x, y) from the centre."""
    r = radius(x, y, q, phi) / r_eff
    return central_brightness(n, r_eff) * np.exp(-b_n(n) * r ** (1.0 / n))


def flux_within(r, n, r_eff):
    """Share of the flux inside the elliptical radius ``r``."""
    return special.gammainc(2.0 * n, b_n(n) * (np.asarray(r) / r_eff) ** (1.0 / n))


def radius_beyond(share, n, r_eff):
    """Elliptical radius beyond which ``share`` of the flux lies.

    >>> round(float(radius_beyond(0.5, 2.0, 0.3)), 12)
    0.3
    """
    return r_eff * (special.gammainccinv(2.0 * np.asarray(n, float), share) / b_n(n)) ** n


# columns of a source's row: centre, the map to units of r_eff (two rows), exponents
X, Y, UX, UY, VX, VY, LOG_PEAK, FALL, POWER, SCALE, ROOT = range(11)
WIDTH = 11

# Gauss-Legendre of m points an axis on exp(-s t), |t| < 1: relative error about s**2m / these
EXPONENTIAL = (6.0, 135.0, 15750.0, 3.47e6, 1.2e9)
# and where the profile's centre, a branch point, lies 1/r half-cells away: about these times r**2m
BRANCH = (0.3, 0.1, 0.05, 0.016, 0.008)
E1, E2, E3, E4, E5 = (f4(np.log2(v)) for v in EXPONENTIAL)
B1, B2, B3, B4, B5 = (f4(np.log2(v)) for v in BRANCH)
MOST = len(EXPONENTIAL)  # points an axis; a cell that needs more is divided


def rows(x, y, n, r_eff, q, phi) -> np.ndarray:
    """(sources, WIDTH) float32: what ``shine`` and ``order`` read; the arguments are arrays of equal length."""
    x, y, n, r_eff, q, phi = (np.asarray(v, float) for v in (x, y, n, r_eff, q, phi))
    major, minor = np.sqrt(q) / r_eff, 1.0 / (np.sqrt(q) * r_eff)
    c, s = np.cos(phi), np.sin(phi)
    columns = [
        x, y, major * c, major * s, -minor * s, minor * c, np.log2(central_brightness(n, r_eff)), b_n(n) / np.log(2.0), 0.5 / n,
        minor, np.abs(np.sin(0.5 * np.pi / n)),
    ]  # fmt: skip
    return np.stack(np.broadcast_arrays(*columns), axis=-1).astype(np.float32)


@jit.simd()
def shine(p, x, y, out):
    """``brightness`` of unit flux at (x, y), 1/arcsec**2, over float32 arrays."""
    x0, y0, ux, uy, vx, vy = p[X], p[Y], p[UX], p[UY], p[VX], p[VY]
    peak, fall, power = p[LOG_PEAK], p[FALL], p[POWER]
    for i in range(len(x)):
        dx, dy = x[i] - x0, y[i] - y0
        u, v = ux * dx + uy * dy, vx * dx + vy * dy
        out[i] = exp2(peak - fall * exp2(power * log2(u * u + v * v + f4(1e-30))))


@jit.simd()
def order(p, x, y, spread, area, phase, tolerance, negligible, bound, points):
    """How to integrate cells whose centres map to (x, y) and whose points map within ``spread`` of there.

    ``points``: Gauss-Legendre points an axis that leave an error below ``tolerance`` of the source's flux; 0 where the cell
    holds less than ``negligible``, MOST + 1 where it must be divided.  ``bound``: log2 of the most flux it can hold.
    ``phase`` is half the cell in radians of the highest frequency that matters: nodes must carry the light's place, too.
    """
    x0, y0, ux, uy, vx, vy = p[X], p[Y], p[UX], p[UY], p[VX], p[VY]
    peak, fall, power, scale, root = p[LOG_PEAK], p[FALL], p[POWER], p[SCALE], p[ROOT]
    log_area, log_tolerance, log_negligible = log2(area), log2(tolerance), log2(negligible)
    log_fall, log_root = log2(fall), log2(root + f4(1e-9))
    for i in range(len(x)):
        dx, dy = x[i] - x0, y[i] - y0
        u, v = ux * dx + uy * dy, vx * dx + vy * dy
        radius = np.sqrt(u * u + v * v)
        wide = min(scale * spread[i], f4(1e12))
        near = max(radius - wide, f4(0.0))
        flux = peak + log_area - fall * exp2(power * log2(near * near + f4(1e-30)))
        # steepest change of the exponent over half a cell: at the nearest radius for n >= 1, at the farthest for n < 1
        at = near if power <= f4(0.5) else radius + wide
        half = f4(0.70710678) * wide
        log_half = log2(half + f4(1e-30))
        slope = f4(1.3862944) * power * fall * exp2((f4(2.0) * power - f4(1.0)) * log2(at + f4(1e-6)))
        change = log2(slope * half + phase)
        # the branch point: its distance in half-cells, and the part of the light that feels it
        nearness = log_half - log2(radius + f4(1e-12))
        felt = min(log_fall + f4(2.0) * power * log_half, f4(0.0)) + log_root
        excess = flux - log_tolerance
        need = f4(1.0)
        need += f4(1.0) if max(excess + f4(2.0) * change - E1, excess + felt + f4(2.0) * nearness + B1) > f4(0.0) else f4(0.0)
        need += f4(1.0) if max(excess + f4(4.0) * change - E2, excess + felt + f4(4.0) * nearness + B2) > f4(0.0) else f4(0.0)
        need += f4(1.0) if max(excess + f4(6.0) * change - E3, excess + felt + f4(6.0) * nearness + B3) > f4(0.0) else f4(0.0)
        need += f4(1.0) if max(excess + f4(8.0) * change - E4, excess + felt + f4(8.0) * nearness + B4) > f4(0.0) else f4(0.0)
        need += f4(1.0) if max(excess + f4(10.0) * change - E5, excess + felt + f4(10.0) * nearness + B5) > f4(0.0) else f4(0.0)
        need = f4(1.0) if excess < f4(0.0) else need
        bound[i] = flux
        points[i] = f4(0.0) if flux < log_negligible else need
