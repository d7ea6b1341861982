"""Convolution of a whole image's deposited light (``lib.lensing.render.paint``) with a PSF, by FFT."""

import numpy as np
from scipy import fft

SPLINE_DEGREE = 2  # of the B-spline that light is deposited with


def frequencies(shape):
    """(fy, fx) in cycles a pixel, shaped to broadcast, of a real transform of ``shape``."""
    return fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :]


def transfer(psf, shape, pixel_arcsec):
    """What to multiply the transform of deposited light (ny, nx) with: the PSF's over the spline's."""
    fy, fx = frequencies(shape)
    return psf.otf(fy, fx, pixel_arcsec) / (np.sinc(fy) * np.sinc(fx)) ** (SPLINE_DEGREE + 1)
