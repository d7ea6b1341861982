"""What is wrong with a brick's pixels: saturation, the maskbits image, and the filling of lost pixels."""

import numpy as np

from lib import jit
from lib.survey import masks
from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic import optics
from lib.survey.synthetic.spec import BANDS, SIDE_PIX, SurveySpec

BRIGHT_MAG, MEDIUM_MAG = 13.0, 16.0
BLEED_NMGY = 2500.0  # flux of a star above which charge runs along its columns


def _disc(x, y, radius):
    """(rows, columns, inside) of a disc, cut to the image; None when it is all outside."""
    y0, y1 = max(0, int(np.ceil(y - radius))), min(SIDE_PIX, int(np.floor(y + radius)) + 1)
    x0, x1 = max(0, int(np.ceil(x - radius))), min(SIDE_PIX, int(np.floor(x + radius)) + 1)
    if y0 >= y1 or x0 >= x1:
        return None
    inside = (np.arange(x0, x1) - x) ** 2 + (np.arange(y0, y1)[:, None] - y) ** 2 <= radius**2
    return slice(y0, y1), slice(x0, x1), inside


def _set(bits, x, y, radius, value) -> None:
    disc = _disc(x, y, radius)
    if disc:
        rows, columns, inside = disc
        bits[rows, columns][inside] |= value


def saturated(spec: SurveySpec, field: optics.PsfField, objects, band: str) -> np.ndarray:
    """(ny, nx) bool: the cores of bright stars, and the columns they bleed along."""
    table, x, y = objects
    flux = table["flux"][:, BANDS.index(band)]
    core = optics.radius_pix(field, flux, spec.saturation_nmgy)
    found = np.zeros((SIDE_PIX, SIDE_PIX), bool)
    for k in np.flatnonzero((table["kind"] == "star") & (core > 0.0)):
        _set(found, x[k], y[k], core[k] + 1.0, True)
        if flux[k] > BLEED_NMGY:
            half = int(min(25.0 * np.sqrt(flux[k] / BLEED_NMGY), 400.0))
            top, left = int(y[k]) - half, int(x[k]) - 1
            found[max(0, top) : max(0, top + 2 * half), max(0, left) : max(0, left + 3)] = True
    return found


def primary(brick: BrickGeometry) -> np.ndarray:
    """(ny, nx) bool: px whose centre is in the unique area.

    The area's edges are projected, not the pixels: a meridian is a straight line on the tangent plane, and a
    parallel so nearly one that steps of a few px are exact.
    """
    plane, pixels, steps = optics.wcs(brick), np.arange(SIDE_PIX), np.linspace(-0.2, 1.2, 1401)
    ra = brick.ra1 + steps * (brick.ra2 - brick.ra1)
    dec = brick.dec1 + steps * (brick.dec2 - brick.dec1)
    east, west = (plane.all_world2pix(np.full(steps.size, edge), dec, 0) for edge in (brick.ra1, brick.ra2))
    south, north = (plane.all_world2pix(ra, np.full(steps.size, edge), 0) for edge in (brick.dec1, brick.dec2))
    x_hi, x_lo = (np.interp(pixels, y, x)[:, None] for x, y in (east, west))
    y_lo, y_hi = (np.interp(pixels, x[::-1], y[::-1]) for x, y in (south, north))
    y = pixels[:, None]
    return (pixels <= x_hi) & (pixels > x_lo) & (y >= y_lo) & (y < y_hi)


def maskbits(primary, objects, lost: dict, saturation: dict) -> np.ndarray:
    """The int32 maskbits image; ``primary`` is a bool map, ``lost`` and ``saturation`` one a band.

    Circles around stars: 150 x 2.5**((11 - mag) / 3) px, as in the surveys.
    """
    bits = np.where(primary, 0, masks.NPRIMARY).astype(np.int32)
    for band in BANDS:
        bits[lost[band]] |= masks.BANDS_ALLMASK[band]
        bits[saturation[band]] |= masks.BANDS_SATUR[band]
    table, x, y = objects
    for k in np.flatnonzero((table["kind"] == "star") & (table["mag_r"] < MEDIUM_MAG)):
        radius = 150.0 * 2.5 ** ((11.0 - table["mag_r"][k]) / 3.0)
        _set(bits, x[k], y[k], radius, masks.MEDIUM)
        if table["mag_r"][k] < BRIGHT_MAG:
            _set(bits, x[k], y[k], radius, masks.BRIGHT)
            _set(bits, x[k], y[k], 1.5 * radius, masks.WISEM1)
            _set(bits, x[k], y[k], radius, masks.WISEM2)
    return bits


@jit.entry()
def fill_rows(image, good, covered):
    """Interpolate the lost px along their rows, in place; where nothing is covered the image is 0."""
    ny, nx = image.shape
    for i in range(ny):
        left, j = -1, 0
        while j < nx:
            if good[i, j] or not covered[i, j]:
                left = j if good[i, j] else -1
                if not covered[i, j]:
                    image[i, j] = 0.0
                j += 1
                continue
            end = j
            while end < nx and covered[i, end] and not good[i, end]:
                end += 1
            right = end if end < nx and good[i, end] else -1
            for k in range(j, end):
                if left >= 0 and right >= 0:
                    share = np.float32(k - left) / np.float32(right - left)
                    image[i, k] = (1 - share) * image[i, left] + share * image[i, right]
                elif left >= 0 or right >= 0:
                    image[i, k] = image[i, left if left >= 0 else right]
            j = end
