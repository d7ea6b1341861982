"""A survey stamp made into a source: sky and neighbours off, PSF exchanged for a small round one, edge faded to zero, flux 1.

A lens magnifies whatever is in the stamp: noise around the galaxy would become arcs of its own, a square edge a straight line, a
neighbour a second source.  Images are (ny, nx), y first; sizes are in arcsec or, where the name says so, in pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.imaging import psf as psfs
from lib.sources import levels, segments, sky
from lib.sources.sky import StampError

DETECT = 2.5  # FWHM, in that of the sharpest level, of the smoothing under which a galaxy's faint parts are looked for ...
THRESHOLD = 1.5  # ... and are what exceeds so many sigma of the smoothed noise; at 2 the fainter half loses another 4 % of its light
BORDER = 2  # rows of zeros around the image
MIN_SIDE_PIX = 16
MIN_SNR = 10.0


@dataclass(frozen=True, eq=False)
class Source:
    """An unlensed galaxy: ``image`` float32, square, odd side, centred on its light, nowhere negative, zero at its edge, sum 1."""

    image: np.ndarray
    pixel_arcsec: float
    psf_fwhm_arcsec: float  # of the round Gaussian left in the brighter half of the light
    half_light_radius_arcsec: float  # of the image, so with that Gaussian
    counts: float  # sum before it was made 1, in the stamp's unit
    aperture_arcsec2: float  # area that the sum is taken over
    snr: float  # the galaxy's counts over the sky's noise in their sum


def prepare(image, pixel_arcsec: float, psf=None, noise_variance=None, *, sky_level=None, electrons=None) -> Source:
    """The ``Source`` in a stamp that has it at its centre; a ``StampError`` says why there is none.

    ``psf`` (ky, kx): the stamp's effective PSF in the same pixels, centred; None if it is negligible.  ``noise_variance`` of a pixel is
    held against the stamp's own; ``sky_level`` is measured in the stamp's frame unless it is known, which it had better be where the
    galaxy's wings reach the frame; ``electrons`` of one count: with it, the noise of the galaxy's own light counts too.
    """
    image, kernel = _checked(image), _kernel(psf)
    noise = sky.measure(image, noise_variance, electrons)
    light = image - (noise.level if sky_level is None else sky_level)
    plane = levels.Plane(light, kernel, pixel_arcsec)
    smoother = plane.smoother(DETECT * levels.sharpest_arcsec(pixel_arcsec))
    smooth = plane.filtered(smoother)
    galaxy, others = segments.find(smooth, THRESHOLD * noise.after(smoother, plane.grid))
    snr = float(light[galaxy].sum() / np.sqrt(galaxy.sum() * noise.density))
    if not snr >= MIN_SNR:
        raise StampError(f"signal-to-noise {snr:.1f} is below {MIN_SNR:g}")
    segments.require_whole(light, galaxy)
    weight = segments.fade(galaxy, others)
    stack = levels.Stack(plane, noise, smooth, galaxy)
    y, x = _centroid(np.maximum(stack.image(), 0.0) * weight)
    shift = np.round(y) - y, np.round(x) - x
    faded = np.maximum(stack.image(shift), 0.0) * ndimage.shift(weight, shift, order=1)  # what is clipped: 0.4 % of the flux, 2 % at most
    faded = _cropped(faded, np.round([y, x]).astype(int))
    counts = float(faded.sum())
    made = (faded / counts).astype(np.float32)
    area = float(weight.sum()) * pixel_arcsec**2
    return Source(made, pixel_arcsec, stack.fwhm_arcsec, half_light_radius(made) * pixel_arcsec, counts, area, snr)


def _checked(image):
    image = np.asarray(image, dtype=float)
    if image.ndim != 2 or min(image.shape) < MIN_SIDE_PIX:
        raise StampError(f"a stamp must be a 2-d image of {MIN_SIDE_PIX} px a side or more, got shape {image.shape}")
    bad = int((~np.isfinite(image)).sum())
    if bad:
        raise StampError(f"{bad} pixels are NaN or infinite")
    return image


def _kernel(psf):
    if psf is None:
        return psfs.Pixelised([[1.0]])
    try:
        kernel = psfs.Pixelised(psf)
    except ValueError as error:
        raise StampError(str(error)) from error
    peak = np.unravel_index(np.argmax(kernel.kernel), kernel.kernel.shape)
    off = np.abs(np.array(peak) - (np.array(kernel.kernel.shape) - 1) / 2)
    if off.max() > 1.0:
        raise StampError(f"the PSF's peak is {off.max():g} px from the centre of its image {kernel.kernel.shape}")
    return kernel


def _centroid(light):
    y, x = np.indices(light.shape)
    return np.array([(light * y).sum(), (light * x).sum()]) / light.sum()


def _cropped(light, centre):
    """The smallest square about a pixel that holds all light and BORDER rows of zeros."""
    where = np.argwhere(light > 0.0)
    half = int(np.abs(where - centre).max()) + BORDER
    out = np.zeros((2 * half + 1, 2 * half + 1))
    out[tuple((where - centre + half).T)] = light[tuple(where.T)]
    return out


def half_light_radius(image, fine: int = 5) -> float:
    """Radius in pixels of the circle about the image's centre that holds half of its sum."""
    image = np.kron(image, np.full((fine, fine), 1.0 / fine**2))
    y, x = np.indices(image.shape)
    r = np.hypot(y - (image.shape[0] - 1) / 2, x - (image.shape[1] - 1) / 2).ravel()
    order = np.argsort(r, kind="stable")
    inside = np.cumsum(image.ravel()[order])
    return float(np.interp(0.5 * inside[-1], inside, r[order]) / fine)
