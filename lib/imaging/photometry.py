"""Fluxes, magnitudes, depths and what is measured on an arc.  Fluxes in nanomaggies, AB."""

import numpy as np

ZERO_POINT = 22.5  # AB magnitude of one nanomaggy


def flux(mag):
    """Nanomaggies of an AB magnitude.

    >>> float(flux(22.5))
    1.0
    """
    return 10.0 ** (-0.4 * (np.asarray(mag, float) - ZERO_POINT))


def mag(flux_nmgy):
    """AB magnitude; NaN where the flux is not positive."""
    f = np.asarray(flux_nmgy, float)
    return ZERO_POINT - 2.5 * np.log10(np.where(f > 0, f, np.nan))


def depth_mag(depth_ivar):
    """5-sigma AB depth of a catalogue's depth column, which is an inverse variance in 1/nanomaggy**2.

    >>> round(float(depth_mag(553.2518)), 3)
    24.181
    """
    d = np.asarray(depth_ivar, float)
    return ZERO_POINT - 2.5 * np.log10(5.0 / np.sqrt(np.where(d > 0, d, np.nan)))


def signal_to_noise(arc, invvar):
    """(matched filter, total, peak) of an arc's light under ``invvar``, pixels with invvar 0 left out.

    Matched filter ``sqrt(sum s**2 w)``; total ``sum s / sqrt(sum 1/w)`` over the brightest pixels that hold 95 % of
    the flux; peak ``max s sqrt(w)``.  NaN where no pixel is good.
    """
    good = invvar > 0
    s, w = arc[good].astype(float), invvar[good].astype(float)
    if not s.size:
        return np.nan, np.nan, np.nan
    order = np.argsort(-s, kind="stable")
    grown = np.cumsum(s[order])
    count = int(np.searchsorted(grown, 0.95 * grown[-1])) + 1
    bright = order[:count]
    total = s[bright].sum() / np.sqrt((1.0 / w[bright]).sum())
    return float(np.sqrt((s * s * w).sum())), float(total), float((s * np.sqrt(w)).max())


def core_fraction(arc, x_pix, y_pix, radius_pix=5.0):
    """Share of the stamp's added flux within ``radius_pix`` of (x, y); NaN without flux."""
    total = float(arc.sum())
    if total <= 0:
        return np.nan
    y, x = np.ogrid[: arc.shape[0], : arc.shape[1]]
    return float(arc[np.hypot(x - x_pix, y - y_pix) < radius_pix].sum()) / total


def detectable(theta_e_arcsec, r_eff_arcsec, fwhm_arcsec, magnification, snr) -> bool:
    """Whether a finder could see the lens (Collett 2015, ApJ 811, 20, section 2.5): images resolved, arcs resolved, magnified, bright.

    >>> detectable(1.5, 0.2, 1.2, 8.0, 40.0), detectable(0.5, 0.2, 1.2, 8.0, 40.0)
    (True, False)
    """
    resolved = theta_e_arcsec**2 > r_eff_arcsec**2 + (fwhm_arcsec / 2.0) ** 2 and magnification * r_eff_arcsec > fwhm_arcsec
    return bool(resolved and magnification >= 3.0 and snr >= 20.0)
