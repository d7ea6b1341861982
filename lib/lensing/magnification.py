"""Magnification by another road than the renderer: rays from the lens centre, for the checks.

The deflection of an isothermal ellipsoid does not depend on the distance from its centre, and a shear's is linear in it.
So a ray of image positions ``r (cos phi, sin phi)`` maps to a *straight line* of the source plane,
``beta(r) = r A(phi) - alpha(phi)``, and the lensed flux is an integral over lines.  No pixels, no code of ``sie``.

What a line collects depends on how far it passes the source and where it begins (``lib.lensing.chords``).  The former goes with
the line's moment about the source, ``m = A x (alpha + source)``, a smooth function of phi whose second derivative is bounded.
Arcs of the circle are halved until that bound says what m does in them: no light and no image is overlooked between samples.
"""

import math

import numpy as np

from lib import jit
from lib.lensing import chords, sersic

NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)
ARCS = 16  # of the circle, to begin with
LEFT = 1e-6  # share of a source's flux beyond the radius that is looked at
CORE = 0.15  # times 3**-n, in r_eff: nearer to the centre a profile's projection is as good as a polynomial
STACK = 64  # arcs that wait while one is halved and halved again


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
def _turned(row):
    """A lens and source as seen from the lens's major axis: theta_e, q, g1, g2, source x and y, and a bound on ``m''``."""
    theta_e, q, phi, g1, g2, sx, sy = row[0], row[1], row[2], row[3], row[4], row[5], row[6]
    c, s, c2, s2 = math.cos(phi), math.sin(phi), math.cos(2.0 * phi), math.sin(2.0 * phi)
    g, off, root = math.hypot(g1, g2), math.hypot(sx, sy), math.sqrt(q)
    flat = (1.0 - q) * (1.0 + q)
    turn = theta_e * min(0.385 * math.sqrt(flat), 0.5 * flat / q) / root**3  # the most of k'
    bend = off + theta_e * (1.0 - q) / root + turn + g * (off + theta_e * (1.5 + 3.0 / root) + turn)
    return theta_e, q, c2 * g1 + s2 * g2, c2 * g2 - s2 * g1, c * sx + s * sy, c * sy - s * sx, bend


@jit.plain()
def _moment(phi, theta_e, q, g1, g2, sx, sy):
    """(m, m', A, alpha + source, distance of phi from the singularities of k) of the ray at phi from the major axis.

    A deflection that is the same all along a ray turns at right angles to it: ``alpha' = k (-sin phi, cos phi)``, k twice the convergence at r = 1.
    """
    ax, ay, dx, dy = _line(phi, theta_e, q, 0.0, g1, g2)
    c, s = math.cos(phi), math.sin(phi)
    norm = math.sqrt(q * q * c * c + s * s)
    dx, dy, k = dx + sx, dy + sy, theta_e * math.sqrt(q) / norm
    bx, by = -s - (g2 * c - g1 * s), c + (g1 * c + g2 * s)
    return ax * dy - ay * dx, bx * dy - by * dx + k * (ax * c + ay * s), ax, ay, dx, dy, norm


@jit.plain()
def _flux(row, core, reach, whole, beyond, stack):
    """Lensed flux of a unit source.  In the source's frame and units u is its major axis, and |u, v| the elliptical radius."""
    theta_e, q, g1, g2, sx, sy, bend = _turned(row)
    r_eff, src_q, turn, g = row[8], row[9], row[10] - row[2], math.hypot(g1, g2)
    root, unit = math.sqrt(src_q), 1.0 / (r_eff * r_eff)
    ux, uy = root * math.cos(turn) / r_eff, root * math.sin(turn) / r_eff
    vx, vy = -math.sin(turn) / (root * r_eff), math.cos(turn) / (root * r_eff)
    longest = (1.0 + g) / (root * r_eff)  # of A
    steepest = theta_e / (math.sqrt(q) * root * r_eff)  # of the line's beginning, by phi
    swing = (1.0 + g) / ((1.0 - g) * src_q)  # of its direction
    for k in range(ARCS):
        stack[k, 0], stack[k, 1] = 2.0 * math.pi * (k + 0.5) / ARCS, math.pi / ARCS
    top, total = ARCS, 0.0
    while top > 0:
        top -= 1
        mid, half = stack[top]
        m, slope, ax, ay, dx, dy, near = _moment(mid, theta_e, q, g1, g2, sx, sy)
        change = half * (abs(slope) + 0.5 * half * bend)
        if (abs(m) - change) * unit > reach * longest:
            continue  # every line passes the source
        u0, v0, u1, v1 = ux * dx + uy * dy, vx * dx + vy * dy, ux * ax + uy * ay, vx * ax + vy * ay
        a, start, moved = math.sqrt(u1 * u1 + v1 * v1), math.sqrt(u0 * u0 + v0 * v0), half * steepest
        ahead = (u0 * u1 + v0 * v1) / a
        if start - moved > reach and ahead + moved + half * swing * (start + moved) < 0.0:
            continue  # every line begins beyond the source and leads away
        smooth = half < 0.7 * min(near, a * r_eff * root) and (change < 0.5 * abs(m) or (abs(m) + change) * unit < core * a)
        if not smooth and half > 1e-12:
            stack[top, 0], stack[top + 1, 0] = mid - 0.5 * half, mid + 0.5 * half
            stack[top, 1], stack[top + 1, 1] = 0.5 * half, 0.5 * half
            top += 2
            continue
        for j in range(len(NODES)):
            m, slope, ax, ay, dx, dy, near = _moment(mid + half * NODES[j], theta_e, q, g1, g2, sx, sy)
            u1, v1 = ux * ax + uy * ay, vx * ax + vy * ay
            a2 = u1 * u1 + v1 * v1
            ahead = ((ux * dx + uy * dy) * u1 + (vx * dx + vy * dy) * v1) / math.sqrt(a2)
            total += WEIGHTS[j] * half * unit / a2 * chords.along(abs(m) * unit / math.sqrt(a2), ahead, whole, beyond)
    return total


@jit.entry()
def _fluxes(rows, core, reach, whole, beyond, out):
    stack = np.empty((STACK, 2))
    for k in range(len(rows)):
        out[k] = _flux(rows[k], core, reach, whole, beyond, stack)


def _rows(*given) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in given)), axis=-1)


def of_source(theta_e, q, phi, g1, g2, src_x, src_y, n, r_eff, src_q, src_phi):
    """Total magnification of Sersic sources behind SIEs with shear; arguments broadcast, angles as in ``Scene``.

    Good to 2e-5 for n of 0.3 to 6 and r_eff >= 0.005"; independent of the pixel renderer and of ``sie.deflection``.
    """
    rows = _rows(theta_e, q, phi, g1, g2, src_x, src_y, n, r_eff, src_q, src_phi)
    out = np.empty(len(rows))
    order = np.argsort(rows[:, 7], kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(rows[order, 7])) + 1):
        index, found = float(rows[mine[0], 7]), np.empty(len(mine))
        _fluxes(rows[mine], CORE * 3.0**-index, float(sersic.radius_beyond(LEFT, index, 1.0)), *chords.table(index), found)
        out[mine] = found
    return out


@jit.entry()
def _counts(rows, out):
    """Images of a point source: where m changes its sign, on the positive half of the ray."""
    stack = np.empty((STACK, 2))
    for row in range(len(rows)):
        theta_e, q, g1, g2, sx, sy, bend = _turned(rows[row])
        for k in range(ARCS):
            stack[k, 0], stack[k, 1] = 2.0 * math.pi * (k + 0.23) / ARCS, 2.0 * math.pi * (k + 1.23) / ARCS
        top, count, zero = ARCS, 0, -1e-13 * (theta_e + math.hypot(sx, sy))  # below rounding: the whole ring is the image
        while top > 0:
            top -= 1
            lo, hi = stack[top]
            mid, half = 0.5 * (lo + hi), 0.5 * (hi - lo)
            m, slope, ax, ay, dx, dy, _ = _moment(mid, theta_e, q, g1, g2, sx, sy)
            if abs(m) > half * (abs(slope) + 0.5 * half * bend):
                continue
            if abs(slope) < half * bend and half > 1e-9:
                stack[top, 0], stack[top, 1], stack[top + 1, 0], stack[top + 1, 1] = lo, mid, mid, hi
                top += 2
                continue
            left, right = _moment(lo, theta_e, q, g1, g2, sx, sy)[0], _moment(hi, theta_e, q, g1, g2, sx, sy)[0]
            if (left < zero) == (right < zero):
                continue
            while half > 1e-9:  # one image, if it is on the ray and not behind its beginning
                lo, hi = (lo, mid) if (left < zero) != (m < zero) else (mid, hi)
                mid, half = 0.5 * (lo + hi), 0.5 * (hi - lo)
                m, slope, ax, ay, dx, dy, _ = _moment(mid, theta_e, q, g1, g2, sx, sy)
            count += 1 if ax * dx + ay * dy > 0.0 else 0
        out[row] = count


def images(theta_e, q, phi, g1, g2, src_x, src_y):
    """Number of images of a point source (the demagnified central one of a real galaxy does not exist in an SIE)."""
    rows = _rows(theta_e, q, phi, g1, g2, src_x, src_y)
    out = np.empty(len(rows), np.int32)
    _counts(rows, out)
    return out


def curves(theta_e, q, phi, g1, g2, angles=7200) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Closed lines (x, y) in arcsec from the lens centre, one point a ray: ``critical``, where the magnification of an image is infinite, and of the
    source plane ``caustic``, its picture there, and ``cut``, where a point source gains its second image.

    With rays ``beta(r) = r A(phi) - alpha(phi)`` the Jacobian's determinant is zero at ``r = A x alpha' / (1 - shear**2)``.
    """
    rays = 2.0 * np.pi * np.arange(angles) / angles
    ax, ay, dx, dy = (np.array(v) for v in zip(*(_line(p, theta_e, q, phi, g1, g2) for p in rays), strict=True))
    turning = 1j * np.fft.fftfreq(angles, 1.0 / angles)
    tx, ty = (np.fft.ifft(np.fft.fft(v) * turning).real for v in (dx, dy))
    r = (ax * ty - ay * tx) / (1.0 - g1 * g1 - g2 * g2)
    return {"critical": (r * np.cos(rays), r * np.sin(rays)), "caustic": (r * ax - dx, r * ay - dy), "cut": (-dx, -dy)}


def caustics(theta_e, q, shear=0.0, shear_angle=0.0, angles=7200) -> dict[str, float]:
    """Areas in arcsec**2 inside the ``curves``; the caustic is the astroid, within which there are two images more.

    ``shear_angle`` is from the lens's major axis.

    >>> round(caustics(1.0, 0.6)["critical"] / np.pi, 6), round(caustics(1.0, 0.6)["caustic"], 4)
    (1.0, 0.1326)
    """
    g1, g2 = shear * math.cos(2 * shear_angle), shear * math.sin(2 * shear_angle)

    def area(x, y):
        return float(abs(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))

    lines = curves(theta_e, q, 0.0, g1, g2, angles)
    of_rays = float(0.5 * np.sum(np.square(lines["critical"])) * 2.0 * np.pi / angles)
    return {name: area(*line) for name, line in lines.items()} | {"critical": of_rays}


@jit.entry()
def _inside(r, s, ring, disc, core, out):
    """Flux of a source at ``r`` from the middle of a disc that falls into the disc: of rings of radius ``s``, and of the ``core`` within the first."""
    for k in range(len(r)):
        total, before = 0.0, 0.0
        for j in range(len(s)):
            if s[j] <= disc - r[k]:
                share = 1.0
            elif s[j] >= disc + r[k] or s[j] <= r[k] - disc:
                share = 0.0
            else:
                share = math.acos((r[k] * r[k] + s[j] * s[j] - disc * disc) / (2.0 * r[k] * s[j])) / math.pi
            total += core * share if j == 0 else 0.5 * (share * ring[j] + before) * (s[j] - s[j - 1])
            before = share * ring[j]
        out[k] = total


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
    r, inside = np.linspace(0.0, far, 1500), np.empty(1500)
    _inside(r, s, ring, disc, float(sersic.flux_within(s[0], n, r_eff)), inside)
    phi = 2.0 * np.pi * (np.arange(angles) + 0.5) / angles
    lines = np.array([_line(p, theta_e, q, 0.0, g1, g2) for p in phi])
    reach = (1.6 * theta_e + far) / (1.0 - shear)
    x, w = np.polynomial.legendre.leggauss(radii)
    rr = 0.5 * reach * (x + 1.0)
    beta = np.hypot(rr * lines[:, :1] - lines[:, 2:3], rr * lines[:, 1:2] - lines[:, 3:])
    values = np.interp(beta, r, inside, right=0.0)
    return float((values * rr * w).sum() * 0.5 * reach * 2.0 * np.pi / angles / (np.pi * disc**2))
