"""Convolution of deposited light (``lib.lensing.render``) with PSFs, on a grid large enough to be linear."""

import numpy as np
from scipy import fft

SPLINE_DEGREE = 3  # of the B-spline that render deposits nodes with


def grid_side(side_pix: int, reach_pix: int, kernel_pix: int) -> tuple[int, int]:
    """(side, margin) of a square grid for a stamp of ``side_pix`` px.

    Light is deposited up to ``reach_pix`` beyond the stamp.  The margin around it keeps what wraps around from
    reaching the stamp: half the kernel for a kernel image, and for analytic PSFs the distance from
    the farthest light to the stamp, across the edge, is at least a stamp's half.
    """
    margin = max(kernel_pix // 2 + 1, side_pix // 4)
    need = side_pix + 2 * (reach_pix + margin)
    side = int(fft.next_fast_len(need, real=True))
    side += (side - side_pix) % 2  # the stamp sits at whole pixels
    return side, margin + (side - need) // 2


def frequencies(shape):
    """(fy, fx) in cycles a pixel, shaped to broadcast, of a real transform of ``shape``."""
    return fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :]


def spline_otf(shape):
    """Transform of the deposit spline."""
    fy, fx = frequencies(shape)
    return (np.sinc(fy) * np.sinc(fx)) ** (SPLINE_DEGREE + 1)


def transfer(psf, shape, pixel_arcsec):
    """What to multiply the transform of deposited light (ny, nx) with: the PSF's over the spline's."""
    fy, fx = frequencies(shape)
    return psf.otf(fy, fx, pixel_arcsec) / spline_otf(shape)


def convolve(light, transfers):
    """``light`` (ny, nx) convolved with each of ``transfers``: (len(transfers), ny, nx), flux per pixel."""
    spectrum = fft.rfft2(light)
    return np.stack([fft.irfft2(spectrum * t, s=light.shape) for t in transfers])
