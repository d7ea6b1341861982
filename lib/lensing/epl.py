"""Elliptical power law (Tessore & Metcalf 2015, A&A 580, A79): ``kappa = (3 - slope)/2 (b/R)**(slope - 1)``.

``R = sqrt(q**2 u**2 + v**2)``, u along the major axis, and ``b = theta_e sqrt(q)``: the mean convergence inside the
ellipse of area ``pi theta_e**2`` is 1, whatever ``q``.  ``slope`` is the 3-d density's, 1 < slope < 3; 2 is the SIE.

With ``phi`` the angle of (q u, v), the deflection is ``(b/R)**(slope-2)`` times an angular series (their eq. 13, 29),
which here is summed by Clenshaw's recurrence: additions and multiplications only, so loops over it become SIMD code.
"""

import numpy as np

from lib import jit
from lib.lensing.elementary import exp2, f4, log2

PRECISION = 3e-8  # the angular series is cut where its terms are below this share of theta_e
TERMS = 64  # and after so many at most: reached below q = 0.16
Q, C, S, NORM, TILT, LOG_B, B, LARGEST, COUNT, FIRST = range(10)  # columns of a lens's row; the series' coefficients come last
WIDTH = FIRST + TERMS + 1


def rows(theta_e, q, phi, slope) -> np.ndarray:
    """(lenses, WIDTH) float32: what ``deflect`` and ``spread`` read; the arguments are arrays of equal length."""
    theta_e, q, phi, slope = (np.asarray(v, float) for v in (theta_e, q, phi, slope))
    out = np.zeros((len(q), WIDTH))
    t, f = slope - 1.0, (1.0 - q) / (1.0 + q)
    b = theta_e * np.sqrt(q)
    out[:, Q], out[:, C], out[:, S] = q, np.cos(phi), np.sin(phi)
    out[:, NORM], out[:, TILT], out[:, B] = 2.0 * b / (1.0 + q), t - 1.0, b
    out[:, LOG_B] = np.log2(np.maximum(b, 1e-30))
    term = np.ones_like(q)
    out[:, FIRST] = term
    for k in range(1, TERMS + 1):
        term = term * -f * (2 * k - (2 - t)) / (2 * k + (2 - t))
        out[:, FIRST + k] = np.where(np.abs(term) > PRECISION * (1.0 - f), term, 0.0)
    count = TERMS - np.argmax(out[:, :FIRST:-1] != 0.0, axis=1)
    out[:, COUNT] = np.where(out[:, FIRST + 1] == 0.0, 0, count + count % 2)  # an even number: two terms a pass
    out[:, LARGEST] = np.abs(out[:, FIRST:]).sum(axis=1) * out[:, NORM]
    return out.astype(np.float32)


@jit.simd()
def angular(p, x, y, ax, ay, work):
    """The part of the deflection that depends on the angle only; log2 R**2 is left in ``work[2]``."""
    n = len(x)
    cos, sin, radius2, b1, b2 = work[0, :n], work[1, :n], work[2, :n], work[3, :n], work[4, :n]
    q, c, s = p[Q], p[C], p[S]
    for i in range(n):
        u, v = q * (c * x[i] + s * y[i]), c * y[i] - s * x[i]
        r2 = u * u + v * v + f4(1e-30)
        inverse = f4(1.0) / np.sqrt(r2)
        cos[i], sin[i], radius2[i] = u * inverse, v * inverse, r2
        b1[i], b2[i] = f4(0.0), f4(0.0)
    for k in range(FIRST + int(p[COUNT]), FIRST, -2):
        odd, even = p[k], p[k - 1]
        for i in range(n):
            twice = f4(2.0) * (cos[i] * cos[i] - sin[i] * sin[i])
            second = odd + twice * b1[i] - b2[i]
            b1[i], b2[i] = even + twice * second - b1[i], second
    # an even count leaves coefficient 0 unused: the sums close with it
    norm, zeroth = p[NORM], p[FIRST]
    for i in range(n):
        co, si = cos[i], sin[i]
        a = zeroth + (co * co - si * si) * b1[i] - b2[i]
        b = f4(2.0) * co * si * b1[i]
        au, av = norm * (co * a - si * b), norm * (co * b + si * a)
        ax[i], ay[i] = c * au - s * av, s * au + c * av


@jit.simd()
def deflect(p, x, y, ax, ay, work):
    """Deflection (ax, ay) at (x, y) from the centre, arcsec; float32 arrays of one length, ``work`` (5, at least that)."""
    angular(p, x, y, ax, ay, work)
    tilt, log_b, radius2 = p[TILT], p[LOG_B], work[2]
    for i in range(len(x)):
        scale = exp2(tilt * (log_b - f4(0.5) * log2(radius2[i])))
        ax[i] *= scale
        ay[i] *= scale


@jit.simd()
def spread(p, reach, shear, x, y, out):
    """How far the source positions of a disc around (x, y) can lie from its centre's: an upper bound, arcsec.

    With ``X = (b/R)**t``, t = slope - 1, at the disc's nearest point: kappa = (2-t)/2 X, and the shear is at most
    kappa + |t-1| |alpha|/r (their eq. 19), so ``1 - d alpha`` stretches by ``max(1 + a, (2-t) X + a - 1)``, a = |t-1| X |alpha|/b, at most.
    """
    q, c, s, tilt, b = p[Q], p[C], p[S], p[TILT], p[B]
    pull = p[LARGEST] / max(b, f4(1e-30))
    for i in range(len(x)):
        u, v = q * (c * x[i] + s * y[i]), c * y[i] - s * x[i]
        r = np.sqrt(u * u + v * v)
        near = max(r - reach, f4(1e-12))
        ratio = exp2((tilt + f4(1.0)) * log2(b / near + f4(1e-30)))
        bent = abs(tilt) * ratio * pull
        stretch = max(f4(1.0) + bent, (f4(1.0) - tilt) * ratio + bent - f4(1.0)) + shear
        jump = f4(2.0) * p[LARGEST] * exp2(tilt * log2(b / (r + reach) + f4(1e-30)))
        most = (f4(1.0) + shear) * reach + jump if tilt <= f4(0.0) else f4(1e30)
        out[i] = min(stretch * reach, most) if r > reach else most


def deflection(x, y, theta_e, q=1.0, phi=0.0, slope=2.0):
    """Deflection (ax, ay) in arcsec at (x, y), float64; lens parameters are scalars.

    >>> ax, ay = deflection(3.0, 4.0, theta_e=1.0, slope=1.5)  # a shallower lens pulls more outside theta_e: sqrt(5)
    >>> round(float(np.hypot(ax, ay)), 12), round(float(ay / ax), 12)
    (2.2360679775, 1.333333333333)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    t, f = slope - 1.0, (1.0 - q) / (1.0 + q)
    b = theta_e * np.sqrt(q)
    u, v = np.cos(phi) * x + np.sin(phi) * y, np.cos(phi) * y - np.sin(phi) * x
    z = q * u + 1j * v
    r = np.abs(z)
    z = np.divide(z, r, out=np.zeros_like(z), where=r > 0)
    term, total = z.copy(), z.copy()
    for k in range(1, 2000):
        term = term * -f * (2 * k - (2 - t)) / (2 * k + (2 - t)) * z * z
        total += term
        if f**k < 1e-17:
            break
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = 2.0 * b / (1.0 + q) * np.where(r > 0, (b / r) ** (t - 1.0) * total, 0.0) * np.exp(1j * phi)
    return alpha.real, alpha.imag
