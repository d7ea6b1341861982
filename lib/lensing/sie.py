"""Singular isothermal ellipsoid (Kormann, Schneider & Bartelmann 1994, A&A 284, 285).

``theta_e`` is the intermediate-axis Einstein radius: the tangential critical curve encloses the
area ``pi theta_e**2`` whatever the axis ratio ``q`` of the mass, 0 < q <= 1.  The major axis lies
``phi`` radians anticlockwise from x.
"""

import math

import numpy as np

from lib import jit
from lib.lensing import epl
from lib.lensing.elementary import f4

SERIES = 1e-3  # below this argument atan(z)/z is taken from its series: exact to 1e-16


@jit.plain()
def deflect(u, v, theta_e, q):
    """Deflection of one ray at (u, v), in the frame of the major axis."""
    psi = math.sqrt(q * q * u * u + v * v)
    if psi == 0.0:
        return 0.0, 0.0
    f = math.sqrt((1.0 - q) * (1.0 + q))
    scale = theta_e * math.sqrt(q)
    a, b = f * u / psi, f * v / psi
    if abs(a) < SERIES:
        au = scale * u / psi * (1.0 - a * a * (1.0 / 3.0 - a * a / 5.0))
    else:
        au = scale / f * math.atan(a)
    if abs(b) < SERIES:
        av = scale * v / psi * (1.0 + b * b * (1.0 / 3.0 + b * b / 5.0))
    else:
        av = scale / f * math.atanh(b)
    return au, av


@jit.vectorize(["void(f8, f8, f8, f8, f8, f8[:], f8[:])"], "(),(),(),(),()->(),()")
def _deflections(x, y, theta_e, q, phi, ax, ay):
    c, s = math.cos(phi), math.sin(phi)
    au, av = deflect(c * x + s * y, c * y - s * x, theta_e, q)
    ax[0] = c * au - s * av
    ay[0] = s * au + c * av


def deflection(x, y, theta_e, q=1.0, phi=0.0):
    """Deflection (ax, ay) in arcsec at (x, y); all arguments broadcast.

    >>> ax, ay = deflection(3.0, 4.0, theta_e=1.0)  # a sphere pulls straight in, with |a| = theta_e
    >>> round(float(ax), 12), round(float(ay), 12)
    (0.6, 0.8)
    """
    return _deflections(x, y, theta_e, q, phi)


def convergence(x, y, theta_e, q=1.0, phi=0.0):
    """Surface density over the critical one: ``theta_e sqrt(q) / (2 psi)``; 1/2 on the critical curve."""
    c, s = np.cos(phi), np.sin(phi)
    psi = np.hypot(q * (c * x + s * y), c * y - s * x)
    return theta_e * np.sqrt(q) / (2.0 * psi)


def axis_ratio(ellipticity):
    """Axis ratio ``q = (1 - e)/(1 + e)``."""
    return (1.0 - ellipticity) / (1.0 + ellipticity)


def rows(theta_e, q, phi):
    """What ``deflect_all`` and ``spread`` read: the power law's, of slope 2."""
    return epl.rows(theta_e, q, phi, np.full(len(q), 2.0))


@jit.simd()
def deflect_all(p, x, y, ax, ay, work):
    """``deflection`` over float32 arrays: of an isothermal lens, the angular series alone."""
    epl.angular(p, x, y, ax, ay, work)


@jit.simd()
def spread(p, reach, shear, x, y, out):
    """``epl.spread`` with what is exact for the SIE: its shear equals its convergence, so ``kappa = b/2R`` bounds the stretch."""
    q, c, s, b = p[epl.Q], p[epl.C], p[epl.S], p[epl.B]
    most = (f4(1.0) + shear) * reach + f4(2.0) * p[epl.LARGEST]
    for i in range(len(x)):
        u, v = q * (c * x[i] + s * y[i]), c * y[i] - s * x[i]
        near = max(np.sqrt(u * u + v * v) - reach, f4(1e-12))
        out[i] = min((max(f4(1.0), b / near - f4(1.0)) + shear) * reach, most)
