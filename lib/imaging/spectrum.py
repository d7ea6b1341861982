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
from lib.imaging import psf as psfs

FINE = 2  # grid points a pixel
CUT = 3e-4  # share of a PSF's transform (its image's peak) beyond the highest frequency kept
WRAP = 1e-4  # share of a PSF's flux beyond the distance at which the period repeats
ZERO, ONE = np.float32(0.0), np.float32(1.0)
FASTEST = 0.75  # cycles a pixel; above it the half-pixel grid itself would alias
STEP = 8  # periods are multiples of this, px


@jit.simd()
def product(a, b, out, rows, inner, columns):
    """``out[:rows, :columns] = a[:rows, :inner] @ b[:inner, :columns]``; rows a multiple of 8, inner of 4.

    The order of additions depends on nothing but ``inner``: a product's bits are the same in every batch and on any thread.
    """
    for i in range(0, rows, 8):
        c0, c1, c2, c3, c4, c5, c6, c7 = out[i], out[i + 1], out[i + 2], out[i + 3], out[i + 4], out[i + 5], out[i + 6], out[i + 7]
        for j in range(columns):
            c0[j], c1[j], c2[j], c3[j], c4[j], c5[j], c6[j], c7[j] = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        for k in range(0, inner, 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            a00, a01, a02, a03 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            a10, a11, a12, a13 = a[i + 1, k], a[i + 1, k + 1], a[i + 1, k + 2], a[i + 1, k + 3]
            a20, a21, a22, a23 = a[i + 2, k], a[i + 2, k + 1], a[i + 2, k + 2], a[i + 2, k + 3]
            a30, a31, a32, a33 = a[i + 3, k], a[i + 3, k + 1], a[i + 3, k + 2], a[i + 3, k + 3]
            a40, a41, a42, a43 = a[i + 4, k], a[i + 4, k + 1], a[i + 4, k + 2], a[i + 4, k + 3]
            a50, a51, a52, a53 = a[i + 5, k], a[i + 5, k + 1], a[i + 5, k + 2], a[i + 5, k + 3]
            a60, a61, a62, a63 = a[i + 6, k], a[i + 6, k + 1], a[i + 6, k + 2], a[i + 6, k + 3]
            a70, a71, a72, a73 = a[i + 7, k], a[i + 7, k + 1], a[i + 7, k + 2], a[i + 7, k + 3]
            for j in range(columns):
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                c0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                c1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                c2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                c3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
                c4[j] += a40 * x0 + a41 * x1 + a42 * x2 + a43 * x3
                c5[j] += a50 * x0 + a51 * x1 + a52 * x2 + a53 * x3
                c6[j] += a60 * x0 + a61 * x1 + a62 * x2 + a63 * x3
                c7[j] += a70 * x0 + a71 * x1 + a72 * x2 + a73 * x3


def _eight(n: int) -> int:
    return -(-n // 8) * 8


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
    """Number of frequencies an axis, a multiple of 8."""
    return ((np.floor(cut * period_pix).astype(int) + 1 + 7) // 8) * 8


@lru_cache(maxsize=64)
def tables(period_pix: int, count: int, side_pix: int, half: int):
    """(4, count, half), (4, ...) float32: cosines and sines of the grid's points; of the stamp's pixels, from the centre outwards."""
    k = 2.0 * np.pi * np.arange(count) / period_pix
    at = (np.arange(half) + 0.5) / FINE
    out = np.arange((side_pix + 1) // 2) + (0.5 if side_pix % 2 == 0 else 0.0)
    pixels = np.zeros((2, _eight(len(out)), count), np.float32)
    pixels[0, : len(out)], pixels[1, : len(out)] = np.cos(np.outer(out, k)), np.sin(np.outer(out, k))
    grid = np.stack([np.cos(np.outer(k, at)), np.sin(np.outer(k, at))]).astype(np.float32)
    return grid, pixels


@lru_cache(maxsize=1024)
def transfer(psf, pixel_arcsec: float, period_pix: int, count: int) -> np.ndarray:
    """(parts, count, count) float32, x frequency first: the PSF's transform over the spline's, by parity in x and y.

    The parts are even-even (real), odd-odd (real), odd-even and even-odd (imaginary); a profile, being round, has the first only.
    Frequencies beyond the PSF's cut are 0.
    """
    k = np.arange(count) / period_pix
    # every frequency stands for itself and its mirror image, but 0 and the Nyquist frequency of an image
    twice = np.where(k <= _limits(psf, pixel_arcsec)[1] + 1e-9, 2.0, 0.0)
    twice[0] = 1.0
    if isinstance(psf, psfs.Pixelised):
        twice[np.isclose(k, 0.5)] = 1.0
        h, m = psf.otf(k[:, None], k[None, :], pixel_arcsec).T, psf.otf(k[:, None], -k[None, :], pixel_arcsec).T
        parts = [(h.real + m.real) / 2, (h.real - m.real) / 2, (h.imag - m.imag) / 2, (h.imag + m.imag) / 2]
    else:
        parts = [psf.otf(k[None, :], k[:, None], pixel_arcsec)]
    weight = twice / (period_pix * np.sinc(k / FINE) ** 3)
    return (np.stack(parts) * weight[:, None] * weight[None, :]).astype(np.float32)


def stack(transfers) -> np.ndarray:
    """Transfers as one array: with all four parts as soon as one of them has them."""
    parts = max(len(t) for t in transfers)
    return np.stack([np.pad(t, ((0, parts - len(t)), (0, 0), (0, 0))) for t in transfers])


@jit.simd()
def forward(grid, hy, hx, table, count, out, even, odd, half_way):
    """Spectrum (2, count, 2 count) of the light within (hy, hx) points of the grid's centre: [x parity, kx, y parity and ky]."""
    h = grid.shape[0] // 2
    for j in range(hy):
        above, below, e, o = grid[h + j], grid[h - 1 - j], even[j], odd[j]
        for x in range(2 * hx):
            a, b = np.float32(above[h - hx + x]), np.float32(below[h - hx + x])
            e[x], o[x] = a + b, a - b
    product(table[0], even, half_way, count, hy, 2 * hx)
    product(table[1], odd, half_way[count:], count, hy, 2 * hx)
    for r in range(2 * count):
        row = half_way[r]
        for i in range(hx):
            a, b = row[hx + i], row[hx - 1 - i]
            even[i, r], odd[i, r] = a + b, a - b
    product(table[0], even, out[0], count, hx, 2 * count)
    product(table[1], odd, out[1], count, hx, 2 * count)


@jit.simd()
def multiply(spectrum, fluxes, transfers, which, count, fresh, out):
    """Add a source's spectrum, times its flux and the PSF's transfer in each band, to ``out`` (2, count, bands 2 count), ``fresh`` or not."""
    keep = ZERO if fresh else ONE
    for b in range(len(fluxes)):
        flux, t, at = np.float32(fluxes[b]), transfers[which[b]], 2 * count * b
        for k in range(count):
            for x in range(2):
                for y in range(2):
                    s, o, even = spectrum[x, k, y * count :], out[x, k, at + y * count :], t[0, k]
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
def inverse(spectra, table, count, out, even, odd, across):
    """The stamp's pixels ``out`` (bands, side, side) from the spectra of ``multiply``."""
    bands, side = out.shape[0], out.shape[1]
    half, low = (side + 1) // 2, (side - 1) // 2
    right = side // 2
    padded, wide = table.shape[1], 2 * count * bands
    product(table[0], spectra[0], even, padded, count, wide)
    product(table[1], spectra[1], odd, padded, count, wide)
    for i in range(half):
        for b in range(bands):
            for y in range(2):
                e, o = even[i, (2 * b + y) * count :], odd[i, (2 * b + y) * count :]
                for k in range(count):
                    across[y, k, b * side + right + i] = e[k] + o[k]
                    across[y, k, b * side + low - i] = e[k] - o[k]
    product(table[0], across[0], even, padded, count, bands * side)
    product(table[1], across[1], odd, padded, count, bands * side)
    for i in range(half):
        for b in range(bands):
            e, o, up, down = even[i, b * side :], odd[i, b * side :], out[b, right + i], out[b, low - i]
            for x in range(side):
                up[x], down[x] = e[x] + o[x], e[x] - o[x]
