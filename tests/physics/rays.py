"""Magnification by rays, slowly: the reference for ``lib.lensing.magnification``, every integral done by panels and nothing from a table."""

import math

import numba
import numpy as np

from lib.lensing import sersic

RADIAL = np.polynomial.legendre.leggauss(16)
ANGULAR = np.polynomial.legendre.leggauss(8)


@numba.njit
def line(phi, theta_e, q, phi_lens, g1, g2):
    """(A, alpha) of the ray at angle phi: Kormann et al. 1994, in the angle from the major axis."""
    t = phi - phi_lens
    c, s = math.cos(t), math.sin(t)
    norm = math.sqrt(q * q * c * c + s * s)
    f = math.sqrt((1.0 - q) * (1.0 + q))
    if f < 1e-4:
        au, av = theta_e * c, theta_e * s
    else:
        scale = theta_e * math.sqrt(q) / f
        au, av = scale * math.atan(f * c / norm), scale * math.atanh(f * s / norm)
    cl, sl = math.cos(phi_lens), math.sin(phi_lens)
    cp, sp = math.cos(phi), math.sin(phi)
    return cp - (g1 * cp + g2 * sp), sp - (g2 * cp - g1 * sp), cl * au - sl * av, sl * au + cl * av


@numba.njit
def along(phi, p):
    """Flux a radian of the ray at angle phi: panels in r that double away from the closest approach to the source."""
    theta_e, q, phi_lens, g1, g2, sx, sy, n, r_eff, qs, phi_s, b, peak = p
    ax, ay, dx, dy = line(phi, theta_e, q, phi_lens, g1, g2)
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


@numba.njit
def panel(lo, hi, p):
    total = 0.0
    for j in range(len(ANGULAR[0])):
        total += ANGULAR[1][j] * along(0.5 * (lo + hi) + 0.5 * (hi - lo) * ANGULAR[0][j], p)
    return 0.5 * (hi - lo) * total


@numba.njit
def flux(p, panels=128, tolerance=1e-6):
    """Lensed flux of a unit source: panels in angle, halved until they agree with their halves."""
    done, stack = 0.0, np.empty((4096, 3))
    for k in range(panels):
        stack[k, 0], stack[k, 1] = 2.0 * math.pi * k / panels, 2.0 * math.pi * (k + 1) / panels
        stack[k, 2] = panel(stack[k, 0], stack[k, 1], p)
    top = panels
    while top > 0:
        top -= 1
        lo, hi, whole = stack[top]
        mid = 0.5 * (lo + hi)
        left, right = panel(lo, mid, p), panel(mid, hi, p)
        if abs(left + right - whole) < tolerance or hi - lo < 1e-7:
            done += left + right
            continue
        stack[top, 0], stack[top, 1], stack[top, 2] = lo, mid, left
        stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = mid, hi, right
        top += 2
    return done


def of_source(*given):
    """``magnification.of_source``: 20 ms a source."""
    columns = [np.atleast_1d(c) for c in np.broadcast_arrays(*(np.asarray(c, float) for c in given))]
    columns += [sersic.b_n(columns[7]), sersic.central_brightness(columns[7], columns[8])]
    return np.array([flux(tuple(float(v) for v in row)) for row in zip(*columns, strict=True)])


@numba.njit
def count(theta_e, q, phi_lens, g1, g2, sx, sy, angles):
    """Images of a point source: sign changes of the line's moment about it, on the positive half of the ray, at ``angles`` samples."""
    found, before, at_before = 0, 0.0, 0.0
    for k in range(angles + 1):
        ax, ay, dx, dy = line(2.0 * math.pi * (k + 0.25) / angles, theta_e, q, phi_lens, g1, g2)
        moment, r = ax * (dy + sy) - ay * (dx + sx), ax * (dx + sx) + ay * (dy + sy)
        if k > 0 and moment * before < 0.0 and r > 0.0 and at_before > 0.0:
            found += 1
        before, at_before = moment, r
    return found


def images(*given, angles=2880):
    """``magnification.images``: exact but for pairs of images closer than a sample."""
    return np.array([count(*(float(v) for v in row), angles) for row in zip(*np.broadcast_arrays(*given), strict=True)])
