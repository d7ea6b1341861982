"""Elliptical Sersic profile of unit total flux (Graham & Driver 2005, PASA 22, 118).

The area inside ``r_eff`` is ``pi r_eff**2`` for every axis ratio (circularised effective radius), half of the
flux lies in it, and the flux to infinity is exactly 1.
"""

import numpy as np
from scipy import special


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
