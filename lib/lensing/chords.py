"""A Sersic profile summed along half-lines, from tables: what a ray from a lens's centre collects.

A ray maps to a half-line of the source plane that passes the source's centre at the distance ``d``, at ``t = 0`` of its length; it begins
at ``t = -ahead``, ``rho`` from the centre.  ``int (t + ahead) f(sqrt(d**2 + t**2)) dt`` over it, f the profile of unit flux and radius, is

- ``M(rho, cos)``, if it begins beyond the closest approach and leads away; ``cos = -ahead / rho`` is then between 0 and 1,
- ``ahead F(d) + M(rho, cos)``, if it begins before, with ``cos = ahead / rho`` and ``F`` the Abel projection, the sum over a whole line.

F and M are smooth in the logarithms of their lengths and of the index, M in its cosine too: a table for all indices, from which one for an index
is a small product.
"""

import functools
import math

import numpy as np

from lib import jit
from lib.lensing import sersic

LOW, HIGH = 0.3, 6.0  # indices
INDICES = 16  # Chebyshev points in log n: 5e-7 of F and M
DEGREE = 8  # of M in the cosine
FIRST_F, STEP_F, COUNT_F = math.log(2.0**-21), math.log(2.0) / 24, 24 * 31  # ln d
FIRST_M, STEP_M, COUNT_M = math.log(2.0**-16), math.log(2.0) / 8, 8 * 26  # ln rho
V = np.exp(np.arange(-16.0, 6.6, 0.2))  # the trapezoidal rule in ln t or ln u: 1e-6 at n = 0.3, better above


def _angles():
    return np.pi * (np.arange(INDICES) + 0.5) / INDICES


def _indices():
    return np.exp(np.log(LOW) + 0.5 * np.log(HIGH / LOW) * (np.cos(_angles()) + 1.0))


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """F (indices, COUNT_F) and the polynomials of M in the cosine (indices, COUNT_M, DEGREE + 1), lowest power first."""
    d = np.exp(FIRST_F + STEP_F * np.arange(COUNT_F))[:, None]
    rho = np.exp(FIRST_M + STEP_M * np.arange(COUNT_M))[:, None]
    at = 0.5 + 0.5 * np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    powers = np.linalg.inv(np.vander(at, increasing=True)).T
    across, begun = 0.5 * np.log(d * d + V * V), [0.5 * np.log(rho * rho + 2.0 * c * rho * V + V * V) for c in at]
    whole, beyond = [], []
    for n in _indices():
        peak, b = sersic.central_brightness(n, 1.0), sersic.b_n(n)
        whole.append(0.4 * peak * np.exp(-b * np.exp(across / n)) @ V)
        beyond.append(np.stack([0.2 * peak * np.exp(-b * np.exp(a / n)) @ (V * V) for a in begun], axis=1) @ powers)
    return np.array(whole), np.array(beyond)


@functools.lru_cache(maxsize=256)
def table(n: float) -> tuple[np.ndarray, np.ndarray]:
    """F (COUNT_F) and M (COUNT_M, DEGREE + 1) of one index."""
    if not LOW <= n <= HIGH:
        raise ValueError(f"a Sersic index must be in [{LOW:g}, {HIGH:g}], got {n:g}")
    away = 2.0 * np.log(n / LOW) / np.log(HIGH / LOW) - 1.0 - np.cos(_angles())
    if (near := np.abs(away) < 1e-12).any():
        share = near.astype(float)
    else:
        share = (-1.0) ** np.arange(INDICES) * np.sin(_angles()) / away
    share /= share.sum()
    whole, beyond = _tables()
    return share @ whole, np.tensordot(share, beyond, 1)


@jit.plain()
def _cubic(x, first, step, count):
    """(index of the first, and four weights) of the cubic through four points of an even grid, constant beyond its ends."""
    g = min(max((x - first) / step, 0.0), count - 1.0)
    k = min(max(int(g) - 1, 0), count - 4)
    t = g - k
    a, b, c = t - 1.0, t - 2.0, t - 3.0
    return k, -a * b * c / 6.0, 0.5 * t * b * c, -0.5 * t * a * c, t * a * b / 6.0


@jit.plain()
def along(d, ahead, whole, beyond):
    """The integral above, from the tables of the index."""
    rho2 = d * d + ahead * ahead + 1e-300
    half = 0.5 * math.log(rho2)
    total = 0.0
    if half < FIRST_M + STEP_M * (COUNT_M - 1):
        c = abs(ahead) / math.sqrt(rho2)
        k, p, q, r, s = _cubic(half, FIRST_M, STEP_M, COUNT_M)
        for j in range(DEGREE, -1, -1):
            total = total * c + (p * beyond[k, j] + q * beyond[k + 1, j] + r * beyond[k + 2, j] + s * beyond[k + 3, j])
    if ahead > 0.0:
        k, p, q, r, s = _cubic(math.log(d + 1e-300), FIRST_F, STEP_F, COUNT_F)
        total += ahead * (p * whole[k] + q * whole[k + 1] + r * whole[k + 2] + s * whole[k + 3])
    return total
