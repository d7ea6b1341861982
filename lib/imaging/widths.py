"""The surveys' "psfsize": the FWHM of the Gaussian whose noise-equivalent area is the PSF's.  It is no PSF's FWHM but a Gaussian's."""

from functools import lru_cache

import numpy as np

FACTOR = 2.0 * np.sqrt(2.0 * np.log(2.0)) / (2.0 * np.sqrt(np.pi))  # 0.6643: psfsize = this sqrt(NEA)


def of_nea(nea_arcsec2):
    """psfsize, arcsec, of a noise-equivalent area."""
    return FACTOR * np.sqrt(nea_arcsec2)


def moffat_alpha(fwhm_arcsec, beta):
    """A Moffat's scale: its brightness goes as ``(1 + (r/alpha)**2)**-beta``."""
    return fwhm_arcsec / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))


def moffat_nea(fwhm_arcsec, beta):
    """A Moffat's noise-equivalent area, ``1 / integral of psf**2``, arcsec**2."""
    return np.pi * moffat_alpha(fwhm_arcsec, beta) ** 2 * (2.0 * beta - 1.0) / (beta - 1.0) ** 2


@lru_cache(maxsize=64)
def of_unit_moffat(beta: float) -> float:
    """psfsize of a Moffat of FWHM 1.

    >>> round(of_unit_moffat(2.8), 3)
    1.324
    """
    return float(of_nea(moffat_nea(1.0, beta)))
