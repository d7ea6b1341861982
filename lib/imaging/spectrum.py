"""Convolution of deposited light with PSFs by short cosine and sine transforms.

Light (from ``lib.lensing.render``) lies on a grid of half-pixel spacing, symmetric about the stamp's centre, deposited with
quadratic B-splines.  Transforms in the stamp's own parity (even and odd about its centre) are real, need only the rows and
columns that hold light, only the frequencies the PSF passes, and give only the stamp's pixels.  They are small matrix products.
The product with a PSF's ``transfer`` divides the spline out, as non-uniform FFTs do (Greengard & Lee 2004, SIAM Review 46, 443),
so the result is the light convolved with the PSF *at the pixel centres*, per pixel area.  Frequencies above the pixels' own Nyquist
frequency are kept where an analytic PSF passes them: sampling, not the method, decides what aliases.
"""

from functools import lru_cache

import numpy as np

from lib import jit
from lib.imaging import matrix
from lib.imaging import psf as psfs

FINE = 2  # grid points a pixel
CUT = 3e-4  # share of a PSF's transform (its image's peak) beyond the highest frequency kept
WRAP = 1e-4  # share of a PSF's flux beyond the distance at which the period repeats
ZERO, ONE = np.float32(0.0), np.float32(1.0)
FASTEST = 0.9  # cycles a pixel; above it the half-pixel grid itself would alias.  PSFs of a FWHM down to 1.7 px are within 1e-3 of the peak
STEP = 8  # periods are multiples of this, px


def _limits(psf, pixel_arcsec: float) -> tuple[float, float]:
    """Of an image, its corner and the Nyquist frequency; of a profile, where ``WRAP`` and ``CUT`` put them."""
    if isinstance(psf, psfs.Pixelised):
        return max(psf.kernel.shape) / 2.0 + 1.0, 0.5
    return psf.radius_arcsec(WRAP) / pixel_arcsec, min(psf.frequency(CUT) * pixel_arcsec, FASTEST)


def limits(bands, pixel_arcsec: float) -> tuple[float, float]:
    """What the PSFs of a stamp ask of the transforms: where the widest one's flux ends (px), and the highest frequency (cycles a pixel)."""
    wings, cuts = zip(*(_limits(p, pixel_arcsec) for p in bands), strict=True)
    return max(wings), max(cuts)


def period(side_pix: int, bright_pix, faint_pix, wing_pix):
    """Period in pixels.  Light up to ``bright_pix`` from the centre repeats beyond every PSF's wing, up to ``faint_pix`` off the stamp."""
    need = 0.5 * side_pix + np.maximum(np.add(bright_pix, wing_pix), faint_pix)
    return (-(-need // STEP) * STEP).astype(int)


def modes(period_pix, cut):
    """Number of frequencies an axis, a multiple of 8 and no less than a product's columns."""
    return np.maximum((np.floor(cut * period_pix).astype(int) + 8) // 8 * 8, matrix.LEAST)


@lru_cache(maxsize=64)
def tables(period_pix: int, count: int, side_pix: int, half: int):
    """(2, count, half) and (2, count, pixels) float32: cosines and sines of the grid's points, and of the stamp's pixels.

    Both count from the stamp's centre outwards; pixels are filled up to a multiple of ``LEAST`` that products want.
    """
    k = 2.0 * np.pi * np.arange(count) / period_pix
    at = (np.arange(half) + 0.5) / FINE
    pixels = np.arange(-(-((side_pix + 1) // 2) // matrix.LEAST) * matrix.LEAST) + (0.5 if side_pix % 2 == 0 else 0.0)
    grid, out = (np.stack([np.cos(np.outer(k, x)), np.sin(np.outer(k, x))]).astype(np.float32) for x in (at, pixels))
    return grid, out


@lru_cache(maxsize=1024)
def transfer(psf, pixel_arcsec: float, period_pix: int, count: int) -> np.ndarray:
    """(parts, count, count) float32, y frequency first: the PSF's transform over the spline's, by parity in y and x.

    The parts are even-even (real), odd-odd (real), odd-even and even-odd (imaginary); a profile, being round, has the first only.
    Frequencies beyond the PSF's cut are 0.
    """
    k = np.arange(count) / period_pix
    # every frequency stands for itself and its mirror image, but 0 and the Nyquist frequency of an image
    twice = np.where(k <= _limits(psf, pixel_arcsec)[1] + 1e-9, 2.0, 0.0)
    twice[0] = 1.0
    if isinstance(psf, psfs.Pixelised):
        twice[np.isclose(k, 0.5)] = 1.0
        h, m = psf.otf(k[:, None], k[None, :], pixel_arcsec), psf.otf(k[:, None], -k[None, :], pixel_arcsec)
        parts = [(h.real + m.real) / 2, (h.real - m.real) / 2, (h.imag + m.imag) / 2, (h.imag - m.imag) / 2]
    else:
        parts = [psf.otf(k[:, None], k[None, :], pixel_arcsec)]
    weight = twice / (period_pix * np.sinc(k / FINE) ** 3)
    return (np.stack(parts) * weight[:, None] * weight[None, :]).astype(np.float32)


def stack(transfers) -> np.ndarray:
    """Transfers as one array: with all four parts as soon as one of them has them."""
    parts = max(len(t) for t in transfers)
    return np.stack([t if len(t) == parts else np.pad(t, ((0, parts - len(t)), (0, 0), (0, 0))) for t in transfers])


@jit.simd()
def forward(grid, hy, hx, table, turned, count, folded, half_way, out):
    """Spectrum (2, count, 2 count) of the light within (hy, hx) points of the grid's centre: [y parity, ky, x parity and kx].

    The light is taken off the grid.  ``table`` and ``turned`` (half, count) are the cosines and sines by rows of frequencies and of points.
    """
    h = grid.shape[0] // 2
    for j in range(hy):
        above, below = grid[h + j], grid[h - 1 - j]
        even, odd = folded[0, j], folded[1, j]
        for i in range(hx):
            a, b, c, d = above[h + i], above[h - 1 - i], below[h + i], below[h - 1 - i]
            even[i], even[hx + i] = np.float32(a + b + (c + d)), np.float32(a - b + (c - d))
            odd[i], odd[hx + i] = np.float32(a + b - (c + d)), np.float32(a - b - (c - d))
        above[h - hx : h + hx], below[h - hx : h + hx] = 0.0, 0.0
    for y in range(2):
        matrix.product(table[y], folded[y], half_way, count, hy, 2 * hx)
        for x in range(2):
            matrix.product(half_way[:, x * hx :], turned[x], out[y, :, x * count :], count, hx, count)


@jit.simd()
def multiply(spectrum, fluxes, transfers, which, count, fresh, out):
    """Add a source's spectrum, times its flux and the PSF's transfer in each band, to ``out`` (2, count, bands 2 count), ``fresh`` or not."""
    keep = ZERO if fresh else ONE
    for b in range(len(fluxes)):
        flux, t, at = np.float32(fluxes[b]), transfers[which[b]], 2 * count * b
        for k in range(count):
            for y in range(2):
                for x in range(2):
                    s, o, even = spectrum[y, k, x * count :], out[y, k, at + x * count :], t[0, k]
                    for i in range(count):
                        o[i] = keep * o[i] + flux * even[i] * s[i]
            if len(t) > 1:
                cc, cs, sc, ss = spectrum[0, k], spectrum[0, k, count:], spectrum[1, k], spectrum[1, k, count:]
                gcc, gcs, gsc, gss = out[0, k, at:], out[0, k, at + count :], out[1, k, at:], out[1, k, at + count :]
                oo, oe, eo = t[1, k], t[2, k], t[3, k]
                for i in range(count):
                    gcc[i] += flux * (oe[i] * sc[i] + eo[i] * cs[i] - oo[i] * ss[i])
                    gss[i] -= flux * (oe[i] * cs[i] + eo[i] * sc[i] + oo[i] * cc[i])
                    gsc[i] += flux * (oo[i] * cs[i] - oe[i] * cc[i] + eo[i] * ss[i])
                    gcs[i] += flux * (oo[i] * sc[i] - eo[i] * cc[i] + oe[i] * ss[i])


@jit.simd()
def inverse(spectra, table, turned, count, out, half_way, quarters):
    """The stamp's pixels ``out`` (bands, side, side) from the spectra of ``multiply``; ``turned`` (2, pixels, count) is ``table``'s transpose."""
    bands, side = out.shape[0], out.shape[1]
    half, low, right = (side + 1) // 2, (side - 1) // 2, side // 2
    padded = table.shape[2]
    for y in range(2):
        matrix.product(turned[y], spectra[y], half_way[y], padded, count, 2 * count * bands)
    for b in range(bands):
        for y in range(2):
            for x in range(2):
                matrix.product(half_way[y, :, (2 * b + x) * count :], table[x], quarters[2 * y + x], padded, count, padded)
        for j in range(half):
            ee, eo, oe, oo = quarters[0, j], quarters[1, j], quarters[2, j], quarters[3, j]
            up, down = out[b, right + j], out[b, low - j]
            for i in range(half):
                p, q, r, s = ee[i] + eo[i], ee[i] - eo[i], oe[i] + oo[i], oe[i] - oo[i]
                up[right + i], up[low - i], down[right + i], down[low - i] = p + r, q + s, p - r, q - s
