"""Magnification by another road than the renderer: rays from the lens centre, for the checks.

The deflection of an isothermal ellipsoid does not depend on the distance from its centre, and a shear's is linear in it.
So a ray of image positions ``r (cos phi, sin phi)`` maps to a *straight line* of the source plane,
``beta(r) = r A(phi) - alpha(phi)``, and the lensed flux is an integral over lines.  No pixels, no code of ``sie``.
"""

import math

import numpy as np

from lib import jit
from lib.lensing import sersic

RADIAL = np.polynomial.legendre.leggauss(16)
ANGULAR = np.polynomial.legendre.leggauss(8)


@jit.plain()
def _line(phi, theta_e, q, phi_lens, g1, g2):
    """(A, alpha) of the ray at angle phi: Kormann et al. 1994, in the angle from the major axis."""
    t = phi - phi_lens
    c, s = math.cos(t), math.sin(t)
    norm = math.sqrt(q * q * c * c + s * s)
    f = math.sqrt((1.0 - q) * (1.0 + q))
    if f < 1e-4:
        au, av = theta_e * c, theta_e * s
    else:
        scale = theta_e * math.sqrt(q) / f
        au, av = scale * math.atan2(f * c, norm), scale * 0.5 * math.log((norm + f * s) / (norm - f * s))
    cl, sl = math.cos(phi_lens), math.sin(phi_lens)
    cp, sp = math.cos(phi), math.sin(phi)
    ax = cp - (g1 * cp + g2 * sp)
    ay = sp - (g2 * cp - g1 * sp)
    return ax, ay, cl * au - sl * av, sl * au + cl * av


@jit.plain()
def _along(phi, p):
    """Flux a radian of the ray at angle phi: panels in r that double away from the closest approach to the source."""
    theta_e, q, phi_lens, g1, g2, sx, sy, n, r_eff, qs, phi_s, b, peak = p
    ax, ay, dx, dy = _line(phi, theta_e, q, phi_lens, g1, g2)
    # the line in the source's frame, scaled so that its length is the elliptical radius in r_eff
    cs, ss, root = math.cos(phi_s), math.sin(phi_s), math.sqrt(qs)
    ox, oy = -dx - sx, -dy - sy
    u0, v0 = root * (cs * ox + ss * oy) / r_eff, (cs * oy - ss * ox) / (root * r_eff)
    u1, v1 = root * (cs * ax + ss * ay) / r_eff, (cs * ay - ss * ax) / (root * r_eff)
    a2 = u1 * u1 + v1 * v1
    nearest = -(u0 * u1 + v0 * v1) / a2
    d2 = max((u0 * v1 - v0 * u1) ** 2 / a2, 0.0)
    power = 1.0 / (2.0 * n)
    total, first = 0.0, 1e-4 / math.sqrt(a2)
    for side in range(2):
        lo, width = 0.0, first
        while True:
            hi = lo + width
            if side == 0:
                r_lo, r_hi = max(nearest + lo, 0.0), max(nearest + hi, 0.0)
            else:
                r_lo, r_hi = max(nearest - hi, 0.0), max(nearest - lo, 0.0)
            mid, half = 0.5 * (r_lo + r_hi), 0.5 * (r_hi - r_lo)
            if half > 0.0:
                for j in range(len(RADIAL[0])):
                    r = mid + half * RADIAL[0][j]
                    rho2 = d2 + a2 * (r - nearest) ** 2
                    total += RADIAL[1][j] * half * r * peak * math.exp(-b * rho2**power)
            rest = peak * r_eff * r_eff * math.exp(-b * (d2 + a2 * hi * hi) ** power)
            if rest * (abs(nearest) + hi) ** 2 / (r_eff * r_eff) < 1e-10 or (side == 1 and r_lo <= 0.0):
                break
            lo, width = hi, max(first, hi)
    return total


@jit.plain()
def _panel(lo, hi, p):
    total = 0.0
    for j in range(len(ANGULAR[0])):
        total += ANGULAR[1][j] * _along(0.5 * (lo + hi) + 0.5 * (hi - lo) * ANGULAR[0][j], p)
    return 0.5 * (hi - lo) * total


@jit.entry()
def _flux(p):
    """Lensed flux of a unit source: panels in angle, halved until they agree with their halves."""
    panels, done, tolerance = 32, 0.0, 1e-6
    stack = np.empty((4096, 3))
    for k in range(panels):
        stack[k, 0], stack[k, 1] = 2.0 * math.pi * k / panels, 2.0 * math.pi * (k + 1) / panels
        stack[k, 2] = _panel(stack[k, 0], stack[k, 1], p)
    top = panels
    while top > 0:
        top -= 1
        lo, hi, whole = stack[top]
        mid = 0.5 * (lo + hi)
        left, right = _panel(lo, mid, p), _panel(mid, hi, p)
        if abs(left + right - whole) < tolerance or hi - lo < 1e-7:
            done += left + right
            continue
        stack[top, 0], stack[top, 1], stack[top, 2] = lo, mid, left
        stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = mid, hi, right
        top += 2
    return done


def of_source(theta_e, q, phi, g1, g2, src_x, src_y, n, r_eff, src_q, src_phi):
    """Total magnification of Sersic sources behind SIEs with shear; arguments broadcast, angles as in ``Scene``.

    Good to 1e-4 for r_eff >= 0.04" and n <= 4; independent of the pixel renderer and of ``sie.deflection``.
    """
    given = (theta_e, q, phi, g1, g2, src_x, src_y, n, r_eff, src_q, src_phi)
    columns = [np.atleast_1d(c) for c in np.broadcast_arrays(*(np.asarray(c, float) for c in given))]
    columns += [sersic.b_n(columns[7]), sersic.central_brightness(columns[7], columns[8])]
    return np.array([_flux(tuple(float(v) for v in row)) for row in zip(*columns, strict=True)])


@jit.entry()
def _folds(theta_e, q, phi_lens, g1, g2, sx, sy, angles=2880):
    """Images of a point source: sign changes of the line's moment about it, on the positive half of the ray."""
    count = 0
    before, at_before = 0.0, 0.0
    for k in range(angles + 1):
        phi = 2.0 * math.pi * (k + 0.25) / angles
        ax, ay, dx, dy = _line(phi, theta_e, q, phi_lens, g1, g2)
        moment = ax * (dy + sy) - ay * (dx + sx)
        r = (ax * (dx + sx) + ay * (dy + sy)) / (ax * ax + ay * ay)
        if k > 0 and moment * before < 0.0 and r > 0.0 and at_before > 0.0:
            count += 1
        before, at_before = moment, r
    return count


def images(theta_e, q, phi, g1, g2, src_x, src_y):
    """Number of images of a point source (the demagnified central one of a real galaxy does not exist in an SIE)."""
    given = (theta_e, q, phi, g1, g2, src_x, src_y)
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, float)) for c in given))
    return np.array([_folds(*row) for row in zip(*columns, strict=True)], dtype=np.int32)


def caustics(theta_e, q, shear=0.0, shear_angle=0.0, angles=7200) -> dict[str, float]:
    """Areas in arcsec**2: ``critical`` (inside the tangential critical curve), ``caustic`` (inside its caustic, the astroid: two
    images more) and ``cut`` (inside the line where a point source gains its second image).

    With rays ``beta(r) = r A(phi) - alpha(phi)`` the Jacobian's determinant is zero at ``r = A x alpha' / (1 - shear**2)``.
    ``shear_angle`` is from the lens's major axis.

    >>> round(caustics(1.0, 0.6)["critical"] / np.pi, 6), round(caustics(1.0, 0.6)["caustic"], 4)
    (1.0, 0.1326)
    """
    g1, g2 = shear * math.cos(2 * shear_angle), shear * math.sin(2 * shear_angle)
    phi = 2.0 * np.pi * np.arange(angles) / angles
    ax, ay, dx, dy = (np.array(v) for v in zip(*(_line(p, theta_e, q, 0.0, g1, g2) for p in phi), strict=True))
    turning = 1j * np.fft.fftfreq(angles, 1.0 / angles)
    tx, ty = (np.fft.ifft(np.fft.fft(v) * turning).real for v in (dx, dy))
    r = (ax * ty - ay * tx) / (1.0 - shear * shear)

    def area(x, y):
        return float(abs(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))

    return {
        "critical": float(0.5 * np.sum(r * r) * 2.0 * np.pi / angles),
        "caustic": area(r * ax - dx, r * ay - dy),
        "cut": area(dx, dy),
    }


def mean_over_disc(theta_e, q, shear, shear_angle, n, r_eff, src_q, disc, angles=96, radii=160):
    """Mean magnification of sources whose centres fill a disc of radius ``disc`` evenly, at random position angles.

    By the area theorem it is the integral over the *image* plane of the disc-convolved source,
    ``(1/(pi disc**2)) int F(|beta(theta)|) d2theta``, F the flux of a source that falls into the disc around it: one smooth
    function of one radius.  ``shear_angle`` is the shear's angle from the lens's major axis.  Scalars in, float out.
    """
    g1, g2 = shear * math.cos(2 * shear_angle), shear * math.sin(2 * shear_angle)
    b, peak = float(sersic.b_n(n)), float(sersic.central_brightness(n, r_eff))
    far = disc + 40.0 * r_eff * max(1.0, n) ** 2
    s = np.geomspace(1e-4 * r_eff, far, 600)
    turn = np.cos(2.0 * np.linspace(0.0, np.pi, 48, endpoint=False))
    rho2 = s[:, None] ** 2 * ((src_q + 1 / src_q) / 2 + (src_q - 1 / src_q) / 2 * turn)
    ring = (peak * np.exp(-b * (rho2 / r_eff**2) ** (0.5 / n))).mean(axis=1) * 2.0 * np.pi * s
    r = np.linspace(0.0, far, 1500)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.arccos(np.clip((r**2 + s**2 - disc**2) / (2.0 * r * s), -1.0, 1.0)) / np.pi
    share[0] = s < disc
    inside = np.trapezoid(share * ring, s, axis=1) + share[:, 0] * float(sersic.flux_within(s[0], n, r_eff))
    phi = 2.0 * np.pi * (np.arange(angles) + 0.5) / angles
    lines = np.array([_line(p, theta_e, q, 0.0, g1, g2) for p in phi])
    reach = (1.6 * theta_e + far) / (1.0 - shear)
    x, w = np.polynomial.legendre.leggauss(radii)
    rr = 0.5 * reach * (x + 1.0)
    beta = np.hypot(rr * lines[:, :1] - lines[:, 2:3], rr * lines[:, 1:2] - lines[:, 3:])
    values = np.interp(beta, r[:, 0], inside, right=0.0)
    return float((values * rr * w).sum() * 0.5 * reach * 2.0 * np.pi / angles / (np.pi * disc**2))
