"""A stamp under round Gaussian PSFs of several sizes, and the image that is everywhere as sharp as its noise allows.

Dividing a telescope's PSF out altogether amplifies noise without limit; exchanging it for a Gaussian of known FWHM does not, and rids the
image of the wings and spikes that a lens would magnify with the galaxy.
"""

import numpy as np
from scipy import fft

from lib.imaging import psf as psfs

FWHM_ARCSEC = 0.08  # the sharpest: a narrower Gaussian lives on frequencies of which HST passes less than 1 %
FWHM_PIX = 2.5  # ... and the sharpest that a cubic spline through the pixels can follow
STEPS = 1.25 ** np.arange(7)  # of FWHM from one level to the next
NOISY, CLEAN = 4.0, 8.0  # signal-to-noise of a pixel from which a level is used, and from which it is used alone
FLOOR = 0.01  # transfer at which a frequency is given up rather than divided by


def sharpest_arcsec(pixel_arcsec: float) -> float:
    """FWHM of the first level.

    >>> sharpest_arcsec(0.03), sharpest_arcsec(0.1)
    (0.08, 0.25)
    """
    return max(FWHM_ARCSEC, FWHM_PIX * pixel_arcsec)


class Plane:
    """A stamp's transform, and its PSF's, on a grid on which nothing wraps around."""

    def __init__(self, light, kernel: psfs.Pixelised, pixel_arcsec: float):
        self.shape, self.pixel_arcsec = light.shape, pixel_arcsec
        self.grid = tuple(fft.next_fast_len(n + max(kernel.kernel.shape) + 64) for n in light.shape)
        self.frequencies = fft.fftfreq(self.grid[0])[:, None], fft.rfftfreq(self.grid[1])[None, :]
        self.spectrum, self.own = fft.rfft2(light, self.grid), kernel.otf(*self.frequencies)

    def smoother(self, fwhm_arcsec):
        """Transfer of a Gaussian on top of the stamp's own PSF."""
        return psfs.Gaussian(fwhm_arcsec).otf(*self.frequencies, self.pixel_arcsec)

    def matcher(self, fwhm_arcsec):
        """Transfer that exchanges the stamp's PSF for a Gaussian."""
        return self.smoother(fwhm_arcsec) * np.conj(self.own) / (np.abs(self.own) ** 2 + FLOOR**2)

    def filtered(self, transfer):
        """The stamp after a filter."""
        return self.inverse(self.spectrum * transfer)

    def inverse(self, spectrum, shift=(0.0, 0.0)):
        """The image of a spectrum, its light moved by ``shift`` (y, x) pixels."""
        fy, fx = self.frequencies
        moved = spectrum * np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1]))
        return fft.irfft2(moved, self.grid)[: self.shape[0], : self.shape[1]]


def step(x):
    """From 0 at 0 to 1 at 1, with no slope at either end."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


class Stack:
    """The sharpest level of a plane, the light of each pixel spread until it is clean.

    Spreading moves light about and adds none; taking at every pixel the level that is clean there would add 4 to 14 %, since light
    that the sharper core gathers would stay in the wings too.
    """

    def __init__(self, plane: Plane, noise, smooth, galaxy):
        fwhms = sharpest_arcsec(plane.pixel_arcsec) * STEPS
        # judged by the smooth image, so that what is kept is not what noise made bright
        signal = smooth / noise.growth(smooth)
        sigmas = [noise.after(plane.matcher(f), plane.grid) for f in fwhms[:-1]]
        clean = [np.zeros(plane.shape), *(step((signal / s - NOISY) / (CLEAN - NOISY)) for s in sigmas), np.ones(plane.shape)]
        sharp = plane.filtered(plane.matcher(fwhms[0]))
        self.plane, self.spectrum = plane, 0.0
        for k, fwhm in enumerate(fwhms):
            part = fft.rfft2(sharp * (clean[k + 1] - clean[k]), plane.grid)
            self.spectrum = self.spectrum + part * plane.smoother(np.sqrt(fwhm**2 - fwhms[0] ** 2))
        order = np.argsort(smooth[galaxy])[::-1]
        half = np.searchsorted(np.cumsum(smooth[galaxy][order]), 0.5 * smooth[galaxy].sum())
        good = [np.median(signal[galaxy][order[: half + 1]]) / s >= 0.5 * (NOISY + CLEAN) for s in sigmas] + [True]
        self.fwhm_arcsec = float(fwhms[good.index(True)])

    def image(self, shift=(0.0, 0.0)):
        """The image, its light moved by ``shift`` (y, x) pixels."""
        return self.plane.inverse(self.spectrum, shift)
