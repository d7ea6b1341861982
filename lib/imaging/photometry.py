"""Fluxes, magnitudes, depths, and which lens can be seen.  Fluxes in nanomaggies, AB."""

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


def detectable(theta_e_arcsec, r_eff_arcsec, fwhm_arcsec, magnification, snr):
    """Whether a finder could see the lens (Collett 2015, ApJ 811, 20, section 2.5): images resolved, arcs resolved, magnified, bright.

    >>> detectable(1.5, 0.2, 1.2, 8.0, 40.0), detectable(0.5, 0.2, 1.2, 8.0, 40.0)
    (True, False)
    """
    resolved = (theta_e_arcsec**2 > r_eff_arcsec**2 + (fwhm_arcsec / 2.0) ** 2) & (magnification * r_eff_arcsec > fwhm_arcsec)
    return resolved & (magnification >= 3.0) & (snr >= 20.0)
