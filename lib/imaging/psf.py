"""Point spread functions, through their transfer functions.

An *effective* PSF (the default: coadd PSFs, PsfEx, psfsize) already holds the pixel's response; an *optical* one
does not, and gets it from ``with_pixel=True``.  Sizes are in arcsec.  ``otf(fy, fx, pixel_arcsec)`` takes
frequencies in cycles a pixel and is 1 at zero: a PSF never changes the flux.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage, special

from lib import jit
from lib.imaging import widths


def _pixel_response(fy, fx):
    return np.sinc(fy) * np.sinc(fx)


@lru_cache(maxsize=64)
def _moffat_table(beta: float):
    """``2 (x/2)**nu K_nu(x) / Gamma(nu)``, nu = beta - 1, on a fine grid of x: a Moffat's transform."""
    x = np.linspace(0.0, 80.0, 160_001)
    nu = beta - 1.0
    with np.errstate(all="ignore"):
        value = 2.0 * np.exp(nu * np.log(x / 2.0) - special.gammaln(nu)) * special.kv(nu, x)
    value[0] = 1.0
    return x, value


@jit.vectorize(["void(f8, f8, f8, f8[:], f8[:])"], "(),(),(),(n)->()")
def _look_up(y, x, scale, table, out):
    """The table, even in the radius, at ``scale`` radii; 0 beyond.  ``np.interp`` would search for what is a division."""
    at = scale * np.sqrt(x * x + y * y)
    k = int(min(at, len(table) - 2.0))
    out[0] = table[k] + (at - k) * (table[k + 1] - table[k]) if at < len(table) - 1.0 else 0.0


@lru_cache(maxsize=64)
def _moffat_cut(beta: float, share: float) -> float:
    """The x of ``_moffat_table`` beyond which ``share`` of the transform's integral over the plane lies."""
    x, value = _moffat_table(beta)
    within = np.cumsum(value * x)
    return float(x[np.searchsorted(within, (1.0 - share) * within[-1])])


@dataclass(frozen=True)
class Moffat:
    """``(1 + (r/alpha)**2)**-beta``, beta > 1 (Moffat 1969, A&A 3, 455)."""

    fwhm_arcsec: float
    beta: float
    with_pixel: bool = False

    @property
    def alpha_arcsec(self) -> float:
        return widths.moffat_alpha(self.fwhm_arcsec, self.beta)

    @property
    def nea_arcsec2(self) -> float:
        """Noise-equivalent area, ``1 / integral of psf**2``."""
        return widths.moffat_nea(self.fwhm_arcsec, self.beta)

    def flux_within(self, r_arcsec):
        """Share of the flux inside a radius.

        >>> [round(float(Moffat(1.0, 3.5).flux_within(r)), 3) for r in (1.0, 1.5, 2.0, 3.0)]
        [0.793, 0.934, 0.977, 0.996]
        """
        return 1.0 - (1.0 + (r_arcsec / self.alpha_arcsec) ** 2) ** (1.0 - self.beta)

    def radius_arcsec(self, share: float) -> float:
        """Radius beyond which ``share`` of the flux lies."""
        return self.alpha_arcsec * float(np.sqrt(share ** (1.0 / (1.0 - self.beta)) - 1.0))

    def frequency(self, share: float) -> float:
        """Cycles an arcsec beyond which ``share`` of the transform lies: what leaving it out takes from the peak of a point's image."""
        return _moffat_cut(float(self.beta), share) / (2.0 * np.pi * self.alpha_arcsec)

    def brightness(self, r_arcsec):
        """Flux per arcsec**2 at a radius, of unit total."""
        peak = (self.beta - 1.0) / (np.pi * self.alpha_arcsec**2)
        return peak * (1.0 + (r_arcsec / self.alpha_arcsec) ** 2) ** -self.beta

    def otf(self, fy, fx, pixel_arcsec):
        x, value = _moffat_table(float(self.beta))
        out = _look_up(fy, fx, 2.0 * np.pi * self.alpha_arcsec / pixel_arcsec / x[1], value)
        return out * _pixel_response(fy, fx) if self.with_pixel else out


@dataclass(frozen=True)
class Gaussian:
    """A circular Gaussian."""

    fwhm_arcsec: float
    with_pixel: bool = False

    @property
    def sigma_arcsec(self) -> float:
        return self.fwhm_arcsec / np.sqrt(8.0 * np.log(2.0))

    @property
    def nea_arcsec2(self) -> float:
        return 4.0 * np.pi * self.sigma_arcsec**2

    def flux_within(self, r_arcsec):
        return 1.0 - np.exp(-0.5 * (r_arcsec / self.sigma_arcsec) ** 2)

    def radius_arcsec(self, share: float) -> float:
        """Radius beyond which ``share`` of the flux lies."""
        return self.sigma_arcsec * float(np.sqrt(-2.0 * np.log(share)))

    def frequency(self, share: float) -> float:
        """Cycles an arcsec beyond which ``share`` of the transform lies."""
        return float(np.sqrt(-2.0 * np.log(share))) / (2.0 * np.pi * self.sigma_arcsec)

    def otf(self, fy, fx, pixel_arcsec):
        f2 = np.square(fy) + np.square(fx)
        out = np.exp(-2.0 * (np.pi * self.sigma_arcsec / pixel_arcsec) ** 2 * f2)
        return out * _pixel_response(fy, fx) if self.with_pixel else out


class Pixelised:
    """A kernel image (ky, kx) at the stamp's own pixel scale; its centre is ``((ky-1)/2, (kx-1)/2)``.

    Between its samples the kernel is its band-limited interpolation.  Normalised to the sum 1.  Equal kernels are equal: what is
    made from one of them is made once.
    """

    def __init__(self, kernel, with_pixel: bool = False):
        kernel = np.asarray(kernel, dtype=float)
        if kernel.ndim != 2 or not np.isfinite(kernel).all():
            raise ValueError(f"a PSF kernel must be a finite 2-d image, got shape {kernel.shape}")
        if kernel.sum() <= 0.0:
            raise ValueError(f"a PSF kernel must have a positive sum, got {kernel.sum():g}")
        self.kernel = kernel / kernel.sum()
        self.with_pixel = with_pixel
        said = f"{self.kernel.shape} {with_pixel}".encode()
        self._key = int.from_bytes(hashlib.blake2b(said + self.kernel.tobytes(), digest_size=16).digest())  # the same in every process

    def __eq__(self, other):
        return isinstance(other, Pixelised) and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    @property
    def nea_pix(self) -> float:
        """Noise-equivalent area in pixels, of the sampled kernel."""
        return 1.0 / float(np.sum(self.kernel**2))

    def otf(self, fy, fx, pixel_arcsec=None):
        ky, kx = self.kernel.shape
        y, x = np.arange(ky) - (ky - 1) / 2.0, np.arange(kx) - (kx - 1) / 2.0
        rows = np.exp(-2j * np.pi * np.outer(np.ravel(fy), y))
        columns = np.exp(-2j * np.pi * np.outer(x, np.ravel(fx)))
        out = rows @ self.kernel @ columns
        return out * _pixel_response(fy, fx) if self.with_pixel else out


Psf = Moffat | Gaussian | Pixelised


def moffat_from_psfsize(psfsize_arcsec: float, beta: float) -> Moffat:
    """The Moffat whose noise-equivalent area is the map's: psfsize is not a FWHM, its core is 1/1.35 narrower.

    >>> round(1.37 / moffat_from_psfsize(1.37, 2.8).fwhm_arcsec, 3)
    1.324
    """
    return Moffat(float(psfsize_arcsec / widths.of_unit_moffat(beta)), beta)


def gaussian_from_psfsize(psfsize_arcsec: float) -> Gaussian:
    """For a Gaussian psfsize and FWHM are the same number."""
    return Gaussian(float(psfsize_arcsec))


def size(psf: Psf, pixel_arcsec: float) -> float:
    """A PSF's psfsize in arcsec."""
    nea = psf.nea_pix * pixel_arcsec**2 if isinstance(psf, Pixelised) else psf.nea_arcsec2
    return float(widths.of_nea(nea))


def fwhm(psf: Psf, pixel_arcsec: float) -> float:
    """Full width at half maximum in arcsec; of a kernel image, of its radial profile about its brightest point."""
    if not isinstance(psf, Pixelised):
        return float(psf.fwhm_arcsec)
    fine = ndimage.zoom(psf.kernel, 8, order=3, grid_mode=True, mode="grid-constant")
    peak = np.unravel_index(np.argmax(fine), fine.shape)
    area = float((fine >= 0.5 * fine[peak]).sum()) / 64.0  # of a circle of the half-maximum diameter, in pixels
    return float(2.0 * np.sqrt(area / np.pi) * pixel_arcsec)
