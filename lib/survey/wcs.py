"""Between the sky and an image's pixels: 0-based, centres at integers."""

import warnings

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_area

from lib.errors import RowError


def from_header(header: Header) -> WCS:
    """The celestial WCS of an image; a missing or singular one is a ``RowError``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header)
            whole = wcs.has_celestial and abs(np.linalg.det(wcs.celestial.pixel_scale_matrix)) > 0.0
        except ValueError as error:  # all errors of wcslib are
            raise RowError("unreadable", f"the image's WCS: {str(error).strip().splitlines()[-1]}") from error
    if not whole:
        raise RowError("unreadable", "the image has no celestial WCS")
    return wcs.celestial


def to_pixel(wcs: WCS, ra_deg, dec_deg):
    """(x, y) of sky positions; NaN for the far side of the sky."""
    with np.errstate(invalid="ignore"):
        x, y = wcs.all_world2pix(ra_deg, dec_deg, 0, quiet=True)
    ra, dec, ra0, dec0 = map(np.radians, (ra_deg, dec_deg, *wcs.wcs.crval))
    far = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0) <= 0
    return np.where(far, np.nan, x), np.where(far, np.nan, y)


def pixel_scale_arcsec(wcs: WCS) -> float:
    """Side of the square of a pixel's area, at the reference point (a TAN brick's corner differs by 3e-6)."""
    return float(np.sqrt(proj_plane_pixel_area(wcs)) * 3600.0)
