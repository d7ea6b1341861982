"""From a lens and a source to light on a pixel grid.

The lensed surface brightness is integrated over the plane by Gauss-Legendre nodes, placed by a bound on how
much the source can change inside a cell, so that small sources, cusps and the singular centre are all
resolved and nothing is point sampled.  Every node is deposited on the grid with a cubic B-spline;
``lib.imaging.convolve`` divides the spline's transform out of the PSF's, as non-uniform FFTs do, so that
what comes out is the brightness convolved with the PSF *at the pixel centres*, times the pixel area.

Positions on the grid are in pixels, 0-based, pixel centres at integers; everything else is in arcsec.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike

from lib.lensing import sersic, shear, sie

NODES = {m: np.polynomial.legendre.leggauss(m) for m in (2, 3, 4, 5)}
ABSCISSA = np.zeros((6, 5))
WEIGHT = np.zeros((6, 5))
for _m, (_x, _w) in NODES.items():
    ABSCISSA[_m, :_m], WEIGHT[_m, :_m] = _x, _w / 2.0

# The relative error of an m-point rule on exp(-s t), |t| < 1, is about s**2m / {135, 15750, 3.5e6, 1.2e9}:
# the change of exponent over half a cell up to which 2, 3, 4, 5 points an axis are good to 5e-5.
CHANGE = (0.3, 0.95, 1.95, 3.1)
# The same for the cell's half-width over its distance to the source's centre, where r**(1/n) is singular.
NEARNESS = (0.16, 0.33, 0.5, 0.62)
NEGLIGIBLE = 1e-9  # share of the source's flux below which a cell is left out
SMALL = 3e-7  # share of the flux below which a cell needs no further division
CENTRAL = 1e-5  # share of the flux above which a cell's distance to the source's centre matters
BLOCK = 16  # pixels a side of the cells that the division starts from
DEEPEST = 30  # halvings of a cell; reached at the singular centre only


@dataclass(frozen=True)
class Scene:
    """Lensed sources, one a task: arrays of equal length (or scalars), angles in arcsec and radians.

    ``x_pix, y_pix`` is the lens centre on the grid; ``src_x_arcsec, src_y_arcsec`` the source's centre
    from there.  ``theta_e_arcsec = 0`` and ``shear = 0`` is an unlensed source.
    """

    x_pix: ArrayLike
    y_pix: ArrayLike
    theta_e_arcsec: ArrayLike
    lens_q: ArrayLike
    lens_phi_rad: ArrayLike
    shear: ArrayLike
    shear_phi_rad: ArrayLike
    src_x_arcsec: ArrayLike
    src_y_arcsec: ArrayLike
    src_n: ArrayLike
    src_reff_arcsec: ArrayLike
    src_q: ArrayLike
    src_phi_rad: ArrayLike

    def parameters(self) -> np.ndarray:
        """(tasks, 19) float64: what ``_integrate`` reads, derived constants included."""
        g1, g2 = shear.components(np.asarray(self.shear, float), np.asarray(self.shear_phi_rad, float))
        n, r_eff = np.asarray(self.src_n, float), np.asarray(self.src_reff_arcsec, float)
        columns = [
            self.x_pix, self.y_pix, self.theta_e_arcsec, self.lens_q,
            np.cos(np.asarray(self.lens_phi_rad, float)), np.sin(np.asarray(self.lens_phi_rad, float)), g1, g2, self.shear,
            self.src_x_arcsec, self.src_y_arcsec, n, r_eff, self.src_q,
            np.cos(np.asarray(self.src_phi_rad, float)), np.sin(np.asarray(self.src_phi_rad, float)),
            sersic.b_n(n), sersic.central_brightness(n, r_eff), 1.0 / (2.0 * n),
        ]  # fmt: skip
        return np.stack(np.broadcast_arrays(*[np.asarray(c, float) for c in columns]), axis=-1)


@numba.njit(cache=True, error_model="numpy")
def _source(x, y, p):
    """Where the ray at (x, y) from the lens lands: squared elliptical radius in r_eff, and |beta - source|**2."""
    u, v = p[4] * x + p[5] * y, p[4] * y - p[5] * x
    au, av = sie.deflect(u, v, p[2], p[3])
    dx = x - (p[4] * au - p[5] * av) - (p[6] * x + p[7] * y) - p[9]
    dy = y - (p[5] * au + p[4] * av) - (p[7] * x - p[6] * y) - p[10]
    s, t = p[14] * dx + p[15] * dy, p[14] * dy - p[15] * dx
    return (p[13] * s * s + t * t / p[13]) / (p[12] * p[12]), dx * dx + dy * dy


@numba.njit(cache=True, error_model="numpy")
def _rule(x, y, h, p):
    """Points an axis for the cell of half-width h at (x, y): 0 leave out, 6 divide.

    The map to the source plane stretches by at most ``max(1, 2 kappa - 1) + shear``; the Sersic exponent's
    slope is largest at the nearest (n >= 1) or farthest (n < 1) source radius that the cell can reach.
    """
    reach = h * np.sqrt(2.0)
    u, v = p[4] * x + p[5] * y, p[4] * y - p[5] * x
    psi = np.sqrt(p[3] * p[3] * u * u + v * v) - reach
    stretch = 1.0
    if p[2] > 0.0:
        if psi <= 0.0:
            stretch = 1e30  # the cell holds the singular centre
        else:
            stretch = max(1.0, p[2] * np.sqrt(p[3]) / psi - 1.0)
    stretch += p[8]
    radius2, distance2 = _source(x, y, p)
    distance = np.sqrt(distance2)
    # the deflection is bounded by 1.6 theta_e (q >= 0.2), which also bounds how far a cell can spread
    spread = min(stretch * reach, (1.0 + p[8]) * reach + 3.2 * p[2])
    near = np.sqrt(p[13]) * max(0.0, distance - spread) / p[12]
    brightest = p[17] * np.exp(-p[16] * (near * near) ** p[18]) * 4.0 * h * h
    if brightest < NEGLIGIBLE:
        return 0
    radius = np.sqrt(radius2)
    if brightest < SMALL:
        return 2
    spread_r = spread / (np.sqrt(p[13]) * p[12])  # in elliptical radii
    inner = max(near, radius - spread_r)
    if inner <= 0.0:
        return 6
    power = 2.0 * p[18]
    at = inner if power <= 1.0 else radius + spread_r
    change = p[16] * power * at ** (power - 1.0) * spread_r / 1.414213562
    nearness = spread_r / (1.414213562 * radius) if brightest > CENTRAL else 0.0
    if stretch < 1e20:
        for m in range(4):
            if change <= CHANGE[m] and nearness <= NEARNESS[m]:
                return m + 2
    return 6


@numba.njit(cache=True, error_model="numpy")
def _spline(t, w):
    """Weights of the cubic B-spline on the four grid points around a node, ``t`` beyond the second."""
    w[0] = (1.0 - t) ** 3 / 6.0
    w[1] = (4.0 + t * t * (3.0 * t - 6.0)) / 6.0
    w[2] = (1.0 + 3.0 * t * (1.0 + t * (1.0 - t))) / 6.0
    w[3] = t**3 / 6.0


@numba.njit(cache=True, error_model="numpy")
def _cell(canvas, weights, stack, x0, y0, h0, p, pixel, deposit):
    """Integrate one cell (and its divisions); flux returned, nodes added to ``canvas`` if ``deposit``.

    Cells that deposit are divided down to a pixel at least: the light must land where it is, too.
    """
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = x0, y0, h0, 0.0
    top, total = 1, 0.0
    bands, ny, nx = canvas.shape
    wx, wy = np.empty(4), np.empty(4)
    while top > 0:
        top -= 1
        x, y, h, depth = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        m = _rule(x, y, h, p)
        if m == 0:
            continue
        if deposit and h > 0.51 * pixel:
            m = 6
        if m == 6:
            if depth < DEEPEST - 1:
                for k in range(4):
                    stack[top, 0] = x + (0.5 if k & 1 else -0.5) * h
                    stack[top, 1] = y + (0.5 if k & 2 else -0.5) * h
                    stack[top, 2], stack[top, 3] = 0.5 * h, depth + 1.0
                    top += 1
                continue
            m = 2
        for i in range(m):
            yn = y + h * ABSCISSA[m, i]
            for j in range(m):
                xn = x + h * ABSCISSA[m, j]
                radius2, _ = _source(xn, yn, p)
                flux = p[17] * np.exp(-p[16] * radius2 ** p[18])
                flux *= WEIGHT[m, i] * WEIGHT[m, j] * 4.0 * h * h
                total += flux
                if not deposit:
                    continue
                gx, gy = p[0] + xn / pixel, p[1] + yn / pixel
                jx, iy = int(np.floor(gx)), int(np.floor(gy))
                if jx < 1 or iy < 1 or jx > nx - 3 or iy > ny - 3:
                    continue
                _spline(gx - jx, wx)
                _spline(gy - iy, wy)
                for b in range(bands):
                    for k in range(4):
                        w = weights[b] * flux * wy[k]
                        for n in range(4):
                            canvas[b, iy - 1 + k, jx - 1 + n] += w * wx[n]
    return total


@numba.njit(cache=True, error_model="numpy")
def _integrate(canvas, weights, p, pixel, x_lo, x_hi, y_lo, y_hi, rings):
    """Deposit the light of the pixels [x_lo, x_hi) x [y_lo, y_hi); return the flux there and all around.

    ``rings`` frames of cells, each twice the size of the last, catch the flux outside of the box.
    """
    total = 0.0
    stack = np.empty((4 * DEEPEST, 4))
    for i in range(y_lo, y_hi, BLOCK):
        for j in range(x_lo, x_hi, BLOCK):
            side = min(BLOCK, x_hi - j, y_hi - i)
            if side == BLOCK:
                x, y = (j + 0.5 * (BLOCK - 1) - p[0]) * pixel, (i + 0.5 * (BLOCK - 1) - p[1]) * pixel
                total += _cell(canvas, weights, stack, x, y, 0.5 * BLOCK * pixel, p, pixel, True)
                continue
            for k in range(i, min(i + BLOCK, y_hi)):
                for n in range(j, min(j + BLOCK, x_hi)):
                    total += _cell(canvas, weights, stack, (n - p[0]) * pixel, (k - p[1]) * pixel, 0.5 * pixel, p, pixel, True)
    cx, cy = (0.5 * (x_lo + x_hi - 1) - p[0]) * pixel, (0.5 * (y_lo + y_hi - 1) - p[1]) * pixel
    half = 0.5 * (x_hi - x_lo) * pixel
    for _ in range(rings):  # a frame of 12 cells of half-width half/2 around the square of half-width half
        for k in range(4):
            for n in range(4):
                if (k == 0 or k == 3) or (n == 0 or n == 3):
                    x, y = cx + (n - 1.5) * half, cy + (k - 1.5) * half
                    total += _cell(canvas, weights, stack, x, y, 0.5 * half, p, pixel, False)
        half *= 2.0
    return total


def nodes(scene: Scene, pixel_arcsec, shape, margin_pix):
    """Light of each task on its own grid: (tasks, ny, nx) float64 spline coefficients, and (tasks,) magnification.

    The source has unit flux, so the second array is the lensed over the unlensed flux on the unbounded plane.
    Light within ``margin_pix`` of the grid's edge is counted, not deposited: PSF wings do not wrap around.
    ``shape`` is square.
    """
    parameters = np.atleast_2d(scene.parameters())
    side, side_y = shape
    if side != side_y:
        raise ValueError(f"shape must be square, got {shape}")
    light = np.zeros((len(parameters), side, side))
    flux = np.empty(len(parameters))
    pixels = np.broadcast_to(pixel_arcsec, flux.shape)
    lo, hi = margin_pix, side - margin_pix
    for k, p in enumerate(parameters):
        flux[k] = _integrate(light[k : k + 1], np.ones(1), p, pixels[k], lo, hi, lo, hi, 6)
    return light, flux


@numba.njit(cache=True, error_model="numpy")
def _paint(canvas, fluxes, parameters, pixel, half_pix):
    ny, nx = canvas.shape[1:]
    for k in range(len(parameters)):
        p, r = parameters[k], int(half_pix[k])
        x_lo, x_hi = max(0, int(p[0]) - r), min(nx, int(p[0]) + r + 1)
        y_lo, y_hi = max(0, int(p[1]) - r), min(ny, int(p[1]) + r + 1)
        if x_lo < x_hi and y_lo < y_hi:
            _integrate(canvas, fluxes[k], p, pixel, x_lo, x_hi, y_lo, y_hi, 0)


def paint(canvas, fluxes, scene: Scene, pixel_arcsec, half_pix):
    """Add all of a scene's sources to one grid ``canvas`` (bands, ny, nx), in place.

    ``fluxes`` (tasks, bands); each source is drawn within ``half_pix`` pixels of its lens centre.
    """
    parameters = np.atleast_2d(scene.parameters())
    half = np.ascontiguousarray(np.broadcast_to(half_pix, len(parameters)), dtype=np.int64)
    _paint(canvas, np.ascontiguousarray(fluxes, dtype=float), parameters, float(pixel_arcsec), half)
